/*
 * An alert as CrowdSec's local API wants it (localapi_swagger.yaml, Alert).
 */
#include <inttypes.h>

#include "base/clock.h"
#include "base/json.h"
#include "sink/crowdsec_impl.h"

const char *
crowdsec_scenario(enum security_kind kind)
{
	static const char *const scenarios[SECURITY_NKINDS] = {
		[SECURITY_AUTH_FAILED] = "bot-operator/auth-failed",
		[SECURITY_MESSAGE_AUTH_FAILED] =
		    "bot-operator/message-auth-failed",
		[SECURITY_MESSAGE_SUSPICIOUS] =
		    "bot-operator/message-suspicious",
		[SECURITY_MESSAGE_FLOOD] = "bot-operator/message-flood",
	};

	return kind < SECURITY_NKINDS ? scenarios[kind] : NULL;
}

static void
set(json_t *j, const char *key, json_t *value)
{
	json_object_set_new(j, key, value);
}

static void
add_meta(json_t *meta, const char *key, const char *value)
{
	json_t *one = json_object();

	if (*value == '\0') {
		json_decref(one);
		return;
	}
	set(one, "key", json_string(key));
	set(one, "value", json_text(value));
	json_array_append_new(meta, one);
}

static json_t *
time_json(uint64_t us)
{
	char iso[CLOCK_ISO_BYTES];

	return json_string(clock_iso(iso, us, true));
}

static json_t *
events_json(const struct crowdsec_alert *a)
{
	json_t *events = json_array(), *e = json_object(), *meta = json_array();

	add_meta(meta, "service", "bot-operator");
	add_meta(meta, "log_type", security_kind_name(a->kind));
	add_meta(meta, a->sender ? "sender" : "source_ip", a->value);
	add_meta(meta, "target_user", a->user);
	add_meta(meta, "queue", a->queue);
	add_meta(meta, "reason", a->reason);
	set(e, "timestamp", time_json(a->to_us));
	set(e, "meta", meta);
	json_array_append_new(events, e);
	return events;
}

json_t *
crowdsec_alert_json(const struct crowdsec_alert *a,
    const struct crowdsec_settings *s)
{
	json_t *j = json_object(), *source = json_object();
	_cleanup_buffer_ struct buffer text = BUFFER_INIT;

	buffer_printf(&text, "%s %s: %u events %s%s%s", a->sender ? "sender" :
	    "Ip", a->value, a->events, security_kind_name(a->kind),
	    *a->queue != '\0' ? " in queue " : "", a->queue);
	set(j, "scenario", json_string(crowdsec_scenario(a->kind)));
	/* Left out, 1.4.6 answers 500. */
	set(j, "scenario_hash", json_string(""));
	set(j, "scenario_version", json_string(""));
	set(j, "message", json_text(buffer_cstr(&text)));
	set(j, "events_count", json_integer(a->events));
	set(j, "start_at", time_json(a->from_us));
	/* From which a decision's duration counts: now, however long it had to
	   wait for the API. */
	set(j, "stop_at", time_json(clock_realtime_us()));
	set(j, "capacity", json_integer(s->after));
	buffer_clear(&text);
	buffer_printf(&text, "%" PRIu64 "s", s->window_us / USEC_PER_SEC);
	set(j, "leakspeed", json_text(buffer_cstr(&text)));
	set(j, "simulated", json_false());
	set(j, "remediation", json_true());
	set(j, "events", events_json(a));
	set(source, "scope", json_string(a->sender ? "queue-sender" : "Ip"));
	set(source, "value", json_text(a->value));
	if (!a->sender)
		set(source, "ip", json_text(a->value));
	set(j, "source", source);
	return j;
}
