/*
 * As a bouncer: GET /v1/decisions/stream, once a while.
 *
 * With startup=true the answer has all decisions, without it what has changed
 * since this key asked last.  Anything that goes wrong may have lost a change,
 * so that the next question is for all of them; what is not among them then is
 * gone.  dedup=false: each decision comes by itself, also one that a longer one
 * about the same value covers; otherwise its end would not be told, and the end
 * of the longer one would not either.
 *
 * Until an answer has been read to its end, and it was one, nothing changes:
 * who was banned stays so until the decision ends by itself.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "sink/crowdsec_impl.h"

#define PATH	"/v1/decisions/stream?"
#define SCOPES	"scopes=ip,range,queue-sender&dedup=false"
/* Decisions in one turn of the loop: well under a millisecond. */
#define SLICE_MOST	500u
/* A decision in an answer has 150 to 300 bytes. */
#define DECISION_BYTES	512u
#define ANSWER_LEAST	(256 * KIB)

/* The only writer of the state. */
static void
enter(struct crowdsec_pull *p, enum crowdsec_pull_state state,
    uint64_t delay_us)
{
	p->state = state;
	if (state == PULL_IDLE || state == PULL_ASKING)
		timer_cancel(p->owner->sinks->p.loop, &p->timer);
	else
		timer_arm(p->owner->sinks->p.loop, &p->timer, delay_us);
}

static struct bans *
bans_of(const struct crowdsec_pull *p)
{
	return p->owner->sinks->p.bans;
}

/* ---- how it goes ---- */

static void
forget_request(struct crowdsec_pull *p)
{
	free(p->url);
	p->url = NULL;
	secret_free(p->key);
	p->key = NULL;
}

static void
failed(struct crowdsec_pull *p, const struct error *err, uint64_t least_us)
{
	struct crowdsec *k = p->owner;
	uint64_t delay = crowdsec_delay_us(k, err, ++p->failures, least_us);

	p->failed++;
	p->ok = false;
	p->whole = true;
	p->error = *err;
	crowdsec_answer_done(&p->answer);
	sink_failed(&k->pull_record, &k->pull_way, err, delay);
	enter(p, PULL_WAITING, delay);
}

/* Said once, and again after all had room. */
static void
check_room(struct crowdsec_pull *p, uint64_t left_out)
{
	bool crowded = left_out != 0;

	p->left_out += left_out;
	if (crowded && !p->crowded)
		log_warning(LOG_EVENT(EVENT_DECISIONS), "crowdsec: %" PRIu64
		    " decisions are left out: MaxDecisions=%zu are kept",
		    left_out, p->owner->settings.max);
	/* A whole says how it is; of changes we may have missed some before. */
	p->crowded = p->asked_whole ? crowded : p->crowded || crowded;
}

static void
worked(struct crowdsec_pull *p)
{
	const struct crowdsec_settings *set = &p->owner->settings;

	p->pulls++;
	p->failures = 0;
	p->ok = p->ever = true;
	p->pulled_us = clock_monotonic_us();
	error_clear(&p->error);
	sink_worked(&p->owner->pull_record, &p->owner->pull_way);
	crowdsec_answer_done(&p->answer);
	/* What was left out comes again only with all of them. */
	p->whole = p->crowded && bans_total(bans_of(p)) < set->max -
	    set->max / 10;
	enter(p, PULL_WAITING, set->interval_us);
}

/* ---- an answer ---- */

static void
read_answer(struct crowdsec_pull *p)
{
	struct error err;
	int r = crowdsec_answer_read(&p->answer, SLICE_MOST, p->asked_whole,
	    &err);

	if (r > 0) {
		enter(p, PULL_READING, 0);
		return;
	}
	if (r < 0) {
		failed(p, &err, 0);
		return;
	}
	if (p->answer.ignored != 0 && p->ignored == 0)
		log_warning(LOG_EVENT(EVENT_DECISIONS), "crowdsec: %" PRIu64
		    " decisions are ignored, the first because of %s",
		    p->answer.ignored, p->answer.ignored_why);
	p->ignored += p->answer.ignored;
	p->taken = 0;
	if (p->asked_whole)
		bans_renew(bans_of(p));
	enter(p, PULL_TAKING, 0);
}

static void
take_answer(struct crowdsec_pull *p)
{
	struct crowdsec_answer *a = &p->answer;
	struct bans *bans = bans_of(p);
	size_t most = SLICE_MOST;

	/* With a whole it says what is not in it anyway. */
	for (; a->ngone != 0 && most != 0; most--)
		bans_remove(bans, a->gone[--a->ngone]);
	for (; p->taken < a->nfresh && most != 0; most--) {
		struct ban *b = a->fresh[p->taken];

		a->fresh[p->taken++] = NULL;
		if (!bans_put(bans, b))
			a->left_out++;
	}
	if (most == 0)
		enter(p, PULL_TAKING, 0);
	else
		enter(p, PULL_SWEEPING, 0);
}

static void
sweep(struct crowdsec_pull *p)
{
	if (p->asked_whole && bans_sweep(bans_of(p), SLICE_MOST)) {
		enter(p, PULL_SWEEPING, 0);
		return;
	}
	check_room(p, p->answer.left_out);
	worked(p);
}

static void
judge(struct crowdsec_pull *p, const struct http_response *r)
{
	struct error err;

	if (r->status == 401 || r->status == 403) {
		error_set(&err, ERROR_AUTH, "forbidden", "CrowdSec does not "
		    "know the key in %.80s: put one there that \"cscli "
		    "bouncers add NAME\" prints",
		    p->owner->settings.key_file);
		failed(p, &err, 0);
		return;
	}
	if (r->status != 200) {
		sink_status_error(&err, "CrowdSec", r, p->key);
		failed(p, &err, r->retry_after_us);
		return;
	}
	crowdsec_answer_begin(&p->answer, r->body, p->owner->settings.max);
	enter(p, PULL_READING, 0);
}

static void
on_done(struct http_request *q, const struct http_response *r,
    const struct error *err)
{
	struct crowdsec_pull *p = q->owner;

	if (err != NULL)
		failed(p, err, 0);
	else
		judge(p, r);
	forget_request(p);
}

/* ---- asking ---- */

static void
add_headers(struct http_request *q, struct buffer *out)
{
	const struct crowdsec_pull *p = q->owner;

	buffer_add_str(out, "User-Agent: bot-operator/" PACKAGE_VERSION "\r\n"
	    "X-Api-Key: ");
	buffer_add_slice(out, secret_bytes(p->key));
	buffer_add_str(out, "\r\n");
}

static int
prepare(struct crowdsec_pull *p, struct error *err)
{
	struct crowdsec *k = p->owner;

	p->key = secret_read_file(k->settings.key_file, err);
	if (p->key == NULL)
		return -EINVAL;
	if (sink_check_header(p->key, k->settings.key_file, err) < 0)
		return -EINVAL;
	p->url = xasprintf("%s" PATH "%s" SCOPES, k->settings.url,
	    p->asked_whole ? "startup=true&" : "");
	if (http_url_parse(&p->request.url, p->url, err) < 0)
		return -EINVAL;
	return crowdsec_make_client(k, err);
}

static void
ask(struct crowdsec_pull *p)
{
	const struct crowdsec_settings *set = &p->owner->settings;
	struct error err;

	p->asked_whole = p->whole;
	if (prepare(p, &err) < 0) {
		err.class = ERROR_AUTH;		/* for a person to mend */
		forget_request(p);
		failed(p, &err, 0);
		return;
	}
	p->request.connect_timeout_us = p->request.timeout_us =
	    set->timeout_us;
	p->request.max_response = ANSWER_LEAST + set->max * DECISION_BYTES;
	enter(p, PULL_ASKING, 0);
	http_send(p->owner->http, &p->request);
}

static void
on_timer(struct timer *t)
{
	struct crowdsec_pull *p = t->owner;

	switch (p->state) {
	case PULL_WAITING:
		ask(p);
		break;
	case PULL_READING:
		read_answer(p);
		break;
	case PULL_TAKING:
		take_answer(p);
		break;
	case PULL_SWEEPING:
		sweep(p);
		break;
	case PULL_IDLE:
	case PULL_ASKING:
		break;
	}
}

/* ---- life ---- */

void
crowdsec_pull_init(struct crowdsec_pull *p, struct crowdsec *owner)
{
	*p = (struct crowdsec_pull){ .owner = owner };
	timer_init(&p->timer, "crowdsec.pull", on_timer, p);
	p->request.on_done = on_done;
	p->request.add_headers = add_headers;
	p->request.owner = p;
}

void
crowdsec_pull_start(struct crowdsec_pull *p)
{
	p->whole = true;
	p->failures = 0;
	if (p->owner->settings.key_file != NULL)
		enter(p, PULL_WAITING, 0);
}

void
crowdsec_pull_stop(struct crowdsec_pull *p)
{
	http_cancel(&p->request);
	forget_request(p);
	crowdsec_answer_done(&p->answer);
	p->ok = false;
	enter(p, PULL_IDLE, 0);
}
