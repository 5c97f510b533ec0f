/*
 * google_answer.h - what Google's servers answer, as JSON.  Pure.
 *
 * Members that are not asked for may be there or not; numbers may stand in
 * strings.  Errors name what is missing, never what was there.
 */
#ifndef BOT_CODEC_GOOGLE_ANSWER_H
#define BOT_CODEC_GOOGLE_ANSWER_H

#include "base/error.h"
#include "base/secret.h"

struct google_answer {
	struct secret *token;
	uint64_t life_us;		/* from now; 0: not said, or expires_us */
	uint64_t expires_us;		/* wall clock; 0: life_us */
};

void	google_answer_done(struct google_answer *);

/* Each: 0, or -EPROTO, *err (PROTOCOL, "google_answer") and *ret is empty. */
/* {"access_token","expires_in"?}: the token endpoint, STS, metadata. */
int	google_answer_from_oauth(struct slice json, struct google_answer *ret,
	    struct error *err);
/* {"accessToken","expireTime"}: generateAccessToken. */
int	google_answer_from_iam(struct slice json, struct google_answer *ret,
	    struct error *err);

/*
 * A token to be exchanged: the text without blanks around it, or that member
 * of a JSON object.  NULL and *err (AUTH, "subject_token").
 */
struct secret *google_subject_token(struct slice text, const char *field,
	    struct error *err);

/*
 * What a server says about a failure, from {"error":"invalid_grant",
 * "error_description"?} or {"error":{"status","message","details"?}}.  A
 * "reason" in the details takes the place of the status.  "" where there is
 * nothing.  One line of printable characters, in which everything that looks
 * like a token (40 letters of base64url in a row) is "...".
 */
#define GOOGLE_NAME_BYTES	48
#define GOOGLE_MESSAGE_BYTES	512
void	google_answer_error(struct slice json, char name[GOOGLE_NAME_BYTES],
	    char message[GOOGLE_MESSAGE_BYTES]);

/* Writes '*' over the secret wherever it stands in the text. */
void	google_hide(char *text, struct slice secret);

/* Cloud Monitoring's timeSeries.list: the newest point of all. */
struct google_sample {
	bool known;			/* there is one */
	uint64_t value;
	uint64_t at_us;			/* wall clock: interval.endTime */
};
/* 0, or -EPROTO and *err (PROTOCOL, "google_answer"). */
int	google_answer_sample(struct slice json, struct google_sample *ret,
	    struct error *err);

#endif
