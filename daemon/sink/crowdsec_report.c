/*
 * As a machine: POST /v1/watchers/login, then POST /v1/alerts.
 *
 * A log-in's token is used until the API does not take it any more; it lives
 * for an hour there.  Alerts wait while nothing works, QUEUE_MAX at most.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "sink/crowdsec_impl.h"

#define QUEUE_MAX	200u		/* alerts that wait */
#define POST_MOST	50u		/* alerts in one request */
#define ANSWER_MAX	(64 * KIB)
#define LOOK_US		USEC_PER_SEC
#define TOKEN_MAX	(8 * KIB)

static void
set(json_t *j, const char *key, json_t *value)
{
	json_object_set_new(j, key, value);
}

static void
write_json(struct buffer *b, json_t *j)
{
	char *text = json_dumps(j, JSON_COMPACT);

	/* One piece, so that no copy is left where the password was. */
	if (text != NULL) {
		(void)buffer_reserve(b, strlen(text));
		buffer_add_str(b, text);
		secret_wipe(text, strlen(text));
	}
	free(text);
	json_decref(j);
}

/* ---- alerts that wait ---- */

static void
free_alerts(struct list *list)
{
	struct list *l;

	while ((l = list_pop_front(list)) != NULL)
		free(list_entry(l, struct crowdsec_alert, link));
}

static void
add_alert(struct crowdsec_report *r, struct crowdsec_alert *a)
{
	r->alerts++;
	if (r->nwaiting >= QUEUE_MAX) {
		free(list_entry(list_pop_front(&r->waiting),
		    struct crowdsec_alert, link));
		r->nwaiting--;
		sink_dropped(&r->owner->record, 1, "too many alerts wait");
	}
	list_push_back(&r->waiting, &a->link);
	r->nwaiting++;
}

/* What was under way goes to the front again. */
static void
land(struct crowdsec_report *r)
{
	list_splice_back(&r->flying, &r->waiting);
	list_splice_back(&r->waiting, &r->flying);
	r->nwaiting += r->nflying;
	r->nflying = 0;
}

static void
collect(struct crowdsec_report *r)
{
	const struct crowdsec_settings *s = &r->owner->settings;
	struct crowdsec_alert *a;

	while ((a = crowdsec_tally_over(&r->tallies, s->after,
	    s->window_us)) != NULL)
		add_alert(r, a);
}

static void
on_event(void *owner, const struct security_event *e)
{
	struct crowdsec_report *r = owner;
	struct crowdsec_alert *a;

	collect(r);
	a = crowdsec_tally(&r->tallies, e, r->owner->settings.after);
	if (a == NULL)
		return;
	add_alert(r, a);
	timer_arm_sooner(r->owner->sinks->p.loop, &r->timer, 0);
}

/* ---- answers ---- */

static void
forget_request(struct crowdsec_report *r)
{
	free(r->url);
	r->url = NULL;
	if (r->body.data != NULL)
		secret_wipe(r->body.data, r->body.size);
	buffer_done(&r->body);
	secret_free(r->password);
	r->password = NULL;
}

static void
failed(struct crowdsec_report *r, const struct error *err, uint64_t least_us)
{
	struct crowdsec *k = r->owner;
	uint64_t delay = crowdsec_delay_us(k, err, ++r->failures, least_us);

	land(r);
	k->record.failed++;
	r->not_before_us = clock_monotonic_us() + delay;
	sink_failed(&k->record, &k->way, err, delay);
}

static void
logged_in(struct crowdsec_report *r, const struct http_response *answer)
{
	json_t *j = json_loadb(answer->body.p != NULL ? answer->body.p : "",
	    answer->body.n, 0, NULL);
	const char *token = json_string_value(json_object_get(j, "token"));
	struct error err = ERROR_INIT;

	if (token == NULL || *token == '\0' || strlen(token) > TOKEN_MAX) {
		error_set(&err, ERROR_PROTOCOL, "no_token", "a log-in was "
		    "answered without a token: is Url= CrowdSec's local API?");
	} else {
		r->token = secret_new(token, strlen(token));
		if (sink_check_header(r->token, "the answer", &err) < 0) {
			secret_free(r->token);
			r->token = NULL;
		}
	}
	/* jansson's copy. */
	if (token != NULL)
		secret_wipe((void *)(uintptr_t)token, strlen(token));
	json_decref(j);
	if (r->token == NULL)
		failed(r, &err, 0);
	else
		timer_arm(r->owner->sinks->p.loop, &r->timer, 0);
}

static void
login_answered(struct crowdsec_report *r, const struct http_response *answer)
{
	struct http_response silent = *answer;
	struct error err;

	if (answer->status == 200) {
		logged_in(r, answer);
		return;
	}
	if (answer->status == 401 || answer->status == 403) {
		error_set(&err, ERROR_AUTH, "login", "CrowdSec does not know "
		    "the machine %.60s with the password in %.80s, or it is "
		    "not validated: see \"cscli machines list\"",
		    r->owner->settings.machine,
		    r->owner->settings.password_file);
		failed(r, &err, 0);
		return;
	}
	/* Its text could repeat the password, escaped in whatever way. */
	silent.body = (struct slice){ NULL, 0 };
	sink_status_error(&err, "CrowdSec (log-in)", &silent, NULL);
	failed(r, &err, answer->retry_after_us);
}

static void
alerts_answered(struct crowdsec_report *r, const struct http_response *answer)
{
	struct crowdsec *k = r->owner;
	struct error err;

	if (answer->status == 200 || answer->status == 201) {
		k->record.sent += r->nflying;
		r->failures = 0;
		sink_worked(&k->record, &k->way);
		free_alerts(&r->flying);
		r->nflying = 0;
		timer_arm(k->sinks->p.loop, &r->timer, 0);
		return;
	}
	if (answer->status == 401 || answer->status == 403) {
		/* The token has ended: another one, at once if that is all. */
		secret_free(r->token);
		r->token = NULL;
		error_set(&err, ERROR_TRANSIENT, "token", "CrowdSec does not "
		    "take the token any more; logging in again");
		if (r->failures != 0) {
			failed(r, &err, 0);
			return;
		}
		r->failures++;
		land(r);
		timer_arm(k->sinks->p.loop, &r->timer, 0);
		return;
	}
	sink_status_error(&err, "CrowdSec (alerts)", answer, r->token);
	if (answer->status >= 400 && answer->status < 500 &&
	    answer->status != 408 && answer->status != 429) {
		/* The same again is futile. */
		sink_refused(&k->record, &err);
		free_alerts(&r->flying);
		r->nflying = 0;
		return;
	}
	failed(r, &err, answer->retry_after_us);
}

static void
on_done(struct http_request *q, const struct http_response *answer,
    const struct error *err)
{
	struct crowdsec_report *r = q->owner;

	if (err != NULL)
		failed(r, err, 0);
	else if (r->logging_in)
		login_answered(r, answer);
	else
		alerts_answered(r, answer);
	r->logging_in = false;
	forget_request(r);
}

/* ---- sending ---- */

static void
add_headers(struct http_request *q, struct buffer *out)
{
	const struct crowdsec_report *r = q->owner;

	buffer_add_str(out, "Content-Type: application/json\r\n"
	    "User-Agent: bot-operator/" PACKAGE_VERSION "\r\n");
	if (r->logging_in)
		return;
	buffer_add_str(out, "Authorization: Bearer ");
	buffer_add_slice(out, secret_bytes(r->token));
	buffer_add_str(out, "\r\n");
}

static int
write_login(struct crowdsec_report *r, struct error *err)
{
	const struct crowdsec_settings *s = &r->owner->settings;
	json_t *j, *names, *password;
	struct slice bytes;

	r->password = secret_read_file(s->password_file, err);
	if (r->password == NULL)
		return -EINVAL;
	bytes = secret_bytes(r->password);
	password = json_stringn(bytes.p, bytes.n);
	if (password == NULL) {
		error_set(err, ERROR_AUTH, "password", "%.120s is no UTF-8 "
		    "text", s->password_file);
		return -EINVAL;
	}
	j = json_object();
	names = json_array();
	for (enum security_kind i = 1; i < SECURITY_NKINDS; i++)
		json_array_append_new(names,
		    json_string(crowdsec_scenario(i)));
	set(j, "machine_id", json_text(s->machine));
	set(j, "password", json_incref(password));
	set(j, "scenarios", names);
	write_json(&r->body, j);
	secret_wipe((void *)(uintptr_t)json_string_value(password),
	    json_string_length(password));
	json_decref(password);
	return 0;
}

static void
write_alerts(struct crowdsec_report *r)
{
	json_t *all = json_array();

	while (!list_empty(&r->waiting) && r->nflying < POST_MOST) {
		struct list *l = list_pop_front(&r->waiting);

		list_push_back(&r->flying, l);
		r->nwaiting--;
		r->nflying++;
		json_array_append_new(all, crowdsec_alert_json(list_entry(l,
		    struct crowdsec_alert, link), &r->owner->settings));
	}
	write_json(&r->body, all);
}

static int
prepare(struct crowdsec_report *r, struct error *err)
{
	struct crowdsec *k = r->owner;

	r->url = xasprintf("%s%s", k->settings.url, r->logging_in ?
	    "/v1/watchers/login" : "/v1/alerts");
	if (http_url_parse(&r->request.url, r->url, err) < 0 ||
	    crowdsec_make_client(k, err) < 0)
		return -EINVAL;
	if (r->logging_in)
		return write_login(r, err);
	write_alerts(r);
	return 0;
}

static void
send_next(struct crowdsec_report *r)
{
	struct crowdsec *k = r->owner;
	struct error err;

	r->logging_in = r->token == NULL;
	if (prepare(r, &err) < 0) {
		err.class = ERROR_AUTH;		/* for a person to mend */
		forget_request(r);
		failed(r, &err, 0);
		return;
	}
	r->request.method = "POST";
	r->request.body = buffer_slice(&r->body);
	r->request.connect_timeout_us = r->request.timeout_us =
	    k->settings.timeout_us;
	http_send(k->http, &r->request);
}

static void
on_timer(struct timer *t)
{
	struct crowdsec_report *r = t->owner;

	timer_arm(r->owner->sinks->p.loop, t, LOOK_US);
	collect(r);
	if (http_busy(&r->request) || list_empty(&r->waiting) ||
	    clock_monotonic_us() < r->not_before_us)
		return;
	send_next(r);
}

/* ---- life ---- */

void
crowdsec_report_init(struct crowdsec_report *r, struct crowdsec *owner)
{
	*r = (struct crowdsec_report){ .owner = owner };
	crowdsec_tallies_init(&r->tallies);
	list_init(&r->waiting);
	list_init(&r->flying);
	buffer_init(&r->body);
	timer_init(&r->timer, "crowdsec.report", on_timer, r);
	r->request.on_done = on_done;
	r->request.add_headers = add_headers;
	r->request.owner = r;
	r->request.max_response = ANSWER_MAX;
	/* A list of numbers may be long: only the status matters. */
	r->request.cut_response = true;
}

void
crowdsec_report_start(struct crowdsec_report *r)
{
	r->failures = 0;
	r->not_before_us = 0;
	if (!r->owner->settings.report)
		return;
	security_listen(on_event, r);
	r->listening = true;
	timer_arm(r->owner->sinks->p.loop, &r->timer, 0);
}

void
crowdsec_report_stop(struct crowdsec_report *r)
{
	if (r->listening)
		security_unlisten(r);
	r->listening = false;
	http_cancel(&r->request);
	land(r);
	forget_request(r);
	r->logging_in = false;
	secret_free(r->token);
	r->token = NULL;
	timer_cancel(r->owner->sinks->p.loop, &r->timer);
}

void
crowdsec_report_done(struct crowdsec_report *r)
{
	crowdsec_report_stop(r);
	if (r->nwaiting != 0)
		sink_dropped(&r->owner->record, r->nwaiting, "the sink ends");
	free_alerts(&r->waiting);
	r->nwaiting = 0;
	crowdsec_tallies_done(&r->tallies);
}
