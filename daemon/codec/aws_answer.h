/*
 * aws_answer.h - credentials as those who give them spell them.  Pure.
 *
 *	process		{"Version":1,"AccessKeyId","SecretAccessKey",
 *			"SessionToken"?,"Expiration"?}
 *	endpoint	{"Code":"Success"?,"AccessKeyId","SecretAccessKey","Token",
 *			"Expiration"}: instance metadata, containers
 *	STS		XML: <AccessKeyId>, <SecretAccessKey>, <SessionToken>,
 *			<Expiration> wherever they stand
 *
 * Errors name what is missing, never what was there.
 */
#ifndef BOT_CODEC_AWS_ANSWER_H
#define BOT_CODEC_AWS_ANSWER_H

#include "base/error.h"
#include "base/secret.h"

#define AWS_ACCESS_KEY_MAX	128	/* IAM API reference, AccessKey */

/* Zero is an empty one. */
struct aws_answer {
	char access_key[AWS_ACCESS_KEY_MAX + 1];
	struct secret *secret_key;
	struct secret *token;		/* NULL: none */
	uint64_t expires_us;		/* wall clock; 0: not said, never */
};

void	aws_answer_done(struct aws_answer *);

/* Each: 0, or -errno and *err (PROTOCOL; AUTH for a Code that is no success),
   and *ret is empty. */
int	aws_answer_from_process(struct slice json, struct aws_answer *ret,
	    struct error *err);
int	aws_answer_from_endpoint(struct slice json, struct aws_answer *ret,
	    struct error *err);
int	aws_answer_from_sts(struct slice xml, struct aws_answer *ret,
	    struct error *err);
/* The parts from elsewhere; token may be empty. err says which is no good. */
int	aws_answer_from_parts(struct slice access_key, struct slice secret_key,
	    struct slice token, struct aws_answer *ret, struct error *err);

/* <Code> and <Message> of an STS error; "" where there is none. */
#define AWS_NAME_BYTES		64
#define AWS_MESSAGE_BYTES	192
void	aws_sts_error(struct slice xml, char name[AWS_NAME_BYTES],
	    char message[AWS_MESSAGE_BYTES]);

/*
 * "2026-11-23T16:00:00Z" in the spellings that are about: fractions, a space
 * for the T, "+00:00", "-0330", no zone at all (UTC), seconds since 1970.
 * -EINVAL.
 */
int	aws_time_parse(struct slice, uint64_t *ret_us);

#endif
