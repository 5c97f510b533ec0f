/*
 * fuzz_alerts.c - any text as When= ("W" first), any bytes as the file of
 * alert states ("F" first).
 *
 * Beyond not crashing: what When= is read as is read the same again from how
 * it is shown; a refusal has a sentence; a file is taken whole or not at all,
 * and what was taken can be saved, looked at and read again.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "observe/alert_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
quiet(void *owner, enum log_level level, const struct log_fields *f,
    const char *text)
{
	(void)owner;
	(void)level;
	(void)f;
	BUG_ON(text == NULL);
}

static void
one_when(const char *text)
{
	static const char *const own[] = { "taken", NULL };
	struct buffer why = BUFFER_INIT;
	struct alert_when w, again;

	if (alert_when_parse(text, own, &w, &why) < 0) {
		BUG_ON(buffer_len(&why) == 0);
	} else {
		BUG_ON(alert_when_parse(w.text, own, &again, &why) < 0);
		BUG_ON(strcmp(w.text, again.text) != 0 || w.op != again.op);
		BUG_ON(w.threshold < again.threshold ||
		    w.threshold > again.threshold);
		BUG_ON(strcmp(w.figure.name, again.figure.name) != 0);
	}
	buffer_done(&why);
}

static struct alerts *
operator_new(struct observer **ret_o, struct engine *e, struct loop *loop)
{
	static const struct config_kind *const schema[] = { &alert_kind, NULL };
	struct config *c = config_load_text("fuzz", "", schema);
	struct alerts *a;

	e->loop = loop;
	e->phase = ENGINE_RUNNING;
	list_init(&e->queues);
	list_init(&e->pools);
	*ret_o = observer_new(loop, e);
	observer_set_instance(*ret_o, "fuzz");
	a = alerts_new(loop, *ret_o, c, NULL);
	config_unref(c);
	return a;
}

static void
one_file(struct slice text)
{
	struct engine e = { .loop = NULL };
	struct buffer why = BUFFER_INIT;
	struct observer *o;
	struct loop *loop;
	struct alerts *a;
	json_t *j;

	BUG_ON(loop_new(&loop) < 0);
	a = operator_new(&o, &e, loop);
	if (alert_file_parse(a, text, &why) < 0) {
		BUG_ON(buffer_len(&why) == 0);
		BUG_ON(a->nalerts != 0 || a->nsilences != 0);
	}
	BUG_ON(a->nalerts > ALERTS_MAX || a->nsilences > SILENCES_MAX);
	j = alerts_json(a);
	BUG_ON(json_array_size(j) != a->nalerts);
	json_decref(j);
	j = alerts_silences_json(a);
	BUG_ON(json_array_size(j) != a->nsilences);
	json_decref(j);
	for (unsigned i = 0; i < 3; i++) {
		clock_advance(USEC_PER_SEC);
		(void)loop_turn(loop, 0);
	}
	/* No queue is there, so no alert of one is left. */
	BUG_ON(a->nalerts > 1);
	alerts_free(a);
	observer_free(o);
	loop_free(loop);
	buffer_done(&why);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	clock_set_virtual(1000 * USEC_PER_SEC,
	    UINT64_C(1795449600) * USEC_PER_SEC);
	log_tap(quiet, NULL);
	log_tap_exclusive(true);
	if (data[0] == 'W') {
		char *text = xstrndup((const char *)data + 1, size - 1);

		one_when(text);
		free(text);
	} else {
		one_file((struct slice){ (const char *)data + 1, size - 1 });
	}
	return 0;
}
