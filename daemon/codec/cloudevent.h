/*
 * cloudevent.h - is this body what the queue's Format= and Require= ask for?
 * Pure.
 *
 * The answer to a person who has to mend a producer: what is missing or
 * wrong, and where (line and column).  Nothing of the body's values gets into
 * the text, since that text ends in logs.
 */
#ifndef BOT_CODEC_CLOUDEVENT_H
#define BOT_CODEC_CLOUDEVENT_H

#include "base/error.h"
#include "base/slice.h"

/* Arrays and objects inside each other; deeper is refused. */
#define JSON_CHECK_DEPTH	64

/*
 * Format=json: one JSON text (RFC 8259) with no name twice in an object.
 * require: NULL or names that end with NULL; then the top must be an object
 * that holds them all.  A dot descends: "data.customer".  A member that is
 * null is there.
 *
 * 0, or -EINVAL and *err (REJECTED, "invalid_format").
 */
int	json_check(struct slice body, char *const *require, struct error *err);

/*
 * Format=cloudevents: a CloudEvents 1.0 event in the JSON format, structured
 * mode (one event, not a batch): specversion "1.0"; id, source and type
 * strings that are not empty; time, datacontenttype, dataschema and subject
 * well-formed where given; not both data and data_base64.  A top member that
 * is null is not there (JSON format, section 2.2).
 */
int	cloudevent_check(struct slice body, char *const *require,
	    struct error *err);

/* ---- binary mode ---- */

struct cloudevent_value {
	struct slice text;
	bool json;	/* a JSON value: its header was no text */
};

/*
 * The attribute of that name without its prefix ("id" for "ce-id"), or false;
 * "datacontenttype" is the message's content type.
 */
typedef bool cloudevent_get_fn(const void *arg, struct slice name,
	    struct cloudevent_value *ret);

/* Says this content type, which may be empty, that the event is the body? */
bool	cloudevent_is_structured(struct slice content_type);

/*
 * The same in binary mode: attributes are headers, the body is the data and
 * may be anything (AMQP binding 1.0.2, section 3.1).  time may be a number
 * too, as AMQP's own timestamp is (3.1.3.2); a JSON null is not there.
 * Names of require are attributes, but "data", a body that is not empty, and
 * "data.customer", a member of a JSON body.
 */
int	cloudevent_check_binary(struct slice body, cloudevent_get_fn *,
	    const void *arg, char *const *require, struct error *err);

#endif
