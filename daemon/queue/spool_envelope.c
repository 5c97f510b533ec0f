#include "queue/spool_impl.h"

#include <jansson.h>

#include "base/json.h"

/* A value that is no string keeps its JSON text. */
static void
add_value(struct chunk *chunk, struct attribute *a, json_t *value)
{
	char *text;

	if (json_is_string(value)) {
		a->value = chunk_copy(chunk, json_string_value(value),
		    json_string_length(value));
		return;
	}
	text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	a->value = chunk_copy(chunk, text != NULL ? text : "null",
	    text != NULL ? strlen(text) : 4);
	a->json = true;
	free(text);
}

int
spool_envelope_parse(struct chunk *chunk, struct slice text,
    struct attribute *out, size_t *ret_n, struct slice *ret_body,
    struct error *err)
{
	size_t room = MIN(text.n, SPOOL_ENVELOPE_MAX);
	const char *end = room != 0 ? memchr(text.p, '\n', room) : NULL;
	json_error_t why;
	const char *name;
	json_t *object, *value;

	*ret_n = 0;
	if (end == NULL) {
		error_set(err, ERROR_REJECTED, "envelope", "the envelope's "
		    "first line does not end within %zu bytes", room);
		return -EINVAL;
	}
	object = json_loadb(text.p, (size_t)(end - text.p),
	    JSON_REJECT_DUPLICATES, &why);
	if (!json_is_object(object) ||
	    json_object_size(object) > SPOOL_ATTRIBUTES_MAX) {
		error_set(err, ERROR_REJECTED, "envelope", "the envelope's "
		    "first line is not a JSON object of at most %u attributes"
		    "%s%s", SPOOL_ATTRIBUTES_MAX, object == NULL ? ": " : "",
		    object == NULL ? why.text : "");
		json_decref(object);
		return -EINVAL;
	}
	json_object_foreach(object, name, value) {
		struct attribute *a = &out[(*ret_n)++];

		*a = (struct attribute){
			.name = chunk_copy(chunk, name, strlen(name)) };
		add_value(chunk, a, value);
	}
	json_decref(object);
	*ret_body = (struct slice){ end + 1,
	    text.n - (size_t)(end + 1 - text.p) };
	return 0;
}

/* JSON from elsewhere may have newlines; a string must do where it is none. */
static void
write_value(struct buffer *b, const struct attribute *a)
{
	json_t *value = NULL;
	char *text = NULL;

	if (a->json)
		value = json_loadb(a->value.p, a->value.n, JSON_DECODE_ANY,
		    NULL);
	if (value != NULL)
		text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	json_decref(value);
	if (text != NULL)
		buffer_add_str(b, text);
	else
		json_add_string(b, a->value);
	free(text);
}

void
spool_envelope_write(struct buffer *b, const struct attribute *attributes,
    size_t n)
{
	buffer_add_char(b, '{');
	for (size_t i = 0; i < n; i++) {
		if (i != 0)
			buffer_add_char(b, ',');
		json_add_string(b, attributes[i].name);
		buffer_add_char(b, ':');
		write_value(b, &attributes[i]);
	}
	buffer_add(b, "}\n", 2);
}
