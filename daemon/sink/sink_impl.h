/*
 * sink_impl.h - what all sinks have in common.
 */
#ifndef BOT_SINK_SINK_IMPL_H
#define BOT_SINK_SINK_IMPL_H

#include "base/error.h"
#include "base/secret.h"
#include "client/http.h"
#include "sink/sink.h"

struct crowdsec;
struct posthog;
struct slack;

struct sinks {
	struct sinks_params p;
	struct config *config;
	struct slack *slack;		/* NULL: no [Slack] */
	struct posthog *posthog;	/* NULL: no [PostHog] */
	struct list kumas;
	struct crowdsec *crowdsec;	/* NULL: no [CrowdSec] */
};

/* One way of a sink: it may have several, which fail apart from each other. */
struct sink_way {
	bool failing;			/* since then nothing worked */
	char code[sizeof(((struct error *)NULL)->code)];	/* as logged */
};

/* How it goes with one peer. */
struct sink_record {
	const char *name;		/* "kuma:health"; the owner's */
	const char *noun;		/* of what is sent; NULL: "message" */
	const char *means;		/* that it fails, for people; NULL:
					   "people cannot be told this way" */
	uint64_t sent, failed, dropped, retries;
	uint64_t sent_us;		/* monotonic, of the last; 0: none */
	struct error error;		/* the last one */
	uint64_t error_at_us;		/* wall clock */
	unsigned failing;		/* so many of its ways are */
};

/* Keeps it; true when that is news. */
bool	sink_way_failed(struct sink_record *, struct sink_way *,
	    const struct error *);
/* Nothing works there; logged when it is news.  It is tried again in next_us. */
void	sink_failed(struct sink_record *, struct sink_way *,
	    const struct error *, uint64_t next_us);
/* One message will never be sent. */
void	sink_refused(struct sink_record *, const struct error *);
void	sink_worked(struct sink_record *, struct sink_way *);
/* It is not used any more. */
void	sink_way_reset(struct sink_record *, struct sink_way *);
void	sink_dropped(struct sink_record *, unsigned n, const char *why);
/* {"sent","failed","dropped","retries","failing","failing_means",
   "last_sent_seconds","last_error"} */
json_t	*sink_record_json(const struct sink_record *);

/* Stars out whatever part of the text is the secret, or of it what follows
   its last slash: peers may repeat what they were sent. */
void	sink_hide(char *text, const struct secret *);
/* After a request: what it was made of is wiped. */
void	sink_forget(struct buffer *secret, struct secret **);
/* 0; or -EINVAL, AUTH, when the file has more than one word. what: "token" */
int	sink_check_word(const struct secret *, const char *file,
	    const char *what, struct error *err);
/* An answer that is not understood otherwise, by its status; the body's start
   is quoted. */
void	sink_status_error(struct error *, const char *who,
	    const struct http_response *, const struct secret *hide);
/* The part of an http(s) URL before the path: 0, or -EINVAL and a problem. */
int	sink_check_url(struct config *, const struct config_section *,
	    const char *key);
/* "https://x/api//" without the slashes at its end. The caller frees. */
char	*sink_trim_url(const char *);

/* Can it stand in a header line? AUTH and a sentence with the file's name. */
int	sink_check_header(const struct secret *, const char *file,
	    struct error *);

/* ---- slack.c ---- */

void	slack_check(struct config *);
struct slack *slack_new(struct sinks *, const struct config_section *);
void	slack_reload(struct slack *, const struct config_section *);
void	slack_free(struct slack *);		/* accepts NULL */
json_t	*slack_json(const struct slack *);

/* ---- posthog.c ---- */

void	posthog_check(struct config *);
struct posthog *posthog_new(struct sinks *, const struct config_section *);
/* What waits is kept and goes the new way. */
void	posthog_reload(struct posthog *, const struct config_section *);
void	posthog_free(struct posthog *);		/* accepts NULL */
json_t	*posthog_json(const struct posthog *);

/* ---- kuma.c ---- */

void	kumas_check(struct config *);
/* Makes, changes and frees so that they are as in the configuration; returns
   how many changed. */
unsigned kumas_sync(struct sinks *);
void	kumas_free(struct sinks *);
void	kumas_add_json(const struct sinks *, json_t *object);

/* ---- crowdsec.c ---- */

void	crowdsec_check(struct config *);
struct crowdsec *crowdsec_new(struct sinks *, const struct config_section *);
void	crowdsec_reload(struct crowdsec *, const struct config_section *);
void	crowdsec_free(struct crowdsec *);	/* accepts NULL */
json_t	*crowdsec_json(const struct crowdsec *);
void	crowdsec_metrics(const struct crowdsec *, struct buffer *);

#endif
