/*
 * crowdsec_answer.h - what the local API says about decisions, piece by piece.
 *
 *	{"new":[DECISION...]|null,"deleted":[DECISION...]|null}
 *	DECISION: {"id":1,"origin":"cscli","type":"ban","scope":"Ip",
 *	    "value":"192.0.2.1","duration":"3h58m53.8s","scenario":"..."}
 *
 * (CrowdSec's localapi_swagger.yaml, GetDecisionsStreamResponse; 1.4.6 writes a
 * decision that was deleted with a negative duration.)  It may hold tens of
 * thousands, so it is read so many at a time and nothing is believed before its
 * end: what there is stands aside until then.
 *
 * The types ban and captcha count, since nobody here can solve a puzzle; others
 * are somebody else's.  Scopes are compared as the API does, without regard to
 * case.  A decision that makes no sense is ignored and counted.
 */
#ifndef BOT_SINK_CROWDSEC_ANSWER_H
#define BOT_SINK_CROWDSEC_ANSWER_H

#include "codec/json_scan.h"
#include "guard/bans.h"

struct crowdsec_answer {
	char *text;			/* a copy; NULL: nothing is read */
	struct json_scan scan;
	size_t max;			/* decisions that are kept */
	bool begun, in_array, is_new;
	bool has_new, has_deleted;	/* those keys were there */

	struct ban **fresh;		/* owned, until they are taken */
	size_t nfresh, fresh_size;
	uint64_t *gone;			/* numbers */
	size_t ngone, gone_size;
	uint64_t ignored;		/* made no sense */
	uint64_t left_out;		/* over the maximum */
	char ignored_why[256];		/* of the first */
};

/* Copies the text. The struct must be zero, or done. */
void	crowdsec_answer_begin(struct crowdsec_answer *, struct slice text,
	    size_t max);
/* Reads on: 1 when there is more, 0 at a good end, -EPROTO and why. whole: of
   an answer to startup=true "new" must be there, or nobody would be banned. */
int	crowdsec_answer_read(struct crowdsec_answer *, size_t most, bool whole,
	    struct error *);
/* Frees what is left of it; zero again. */
void	crowdsec_answer_done(struct crowdsec_answer *);

#endif
