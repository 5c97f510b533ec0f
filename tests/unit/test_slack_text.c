/*
 * What a message in Slack says: escapes, limits, blocks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "sink/slack_text.h"

/* 2026-11-23T16:00:00Z */
#define WALL_US	(UINT64_C(1795449600) * USEC_PER_SEC)

static const struct slack_place place = { .host = "host-1",
	.botctl = "botctl -i client-sample" };

static struct alert_event
event(void)
{
	return (struct alert_event){
		.kind = ALERT_EVENT_FIRING, .severity = ALERT_CRITICAL,
		.rule = "deep", .when = "queue.backlog > 1000",
		.scope = FIGURE_QUEUE, .subject = "orders",
		.subject_title = "queue:orders", .figure = "queue.backlog",
		.op = ">", .value = 1200, .threshold = 1000,
		.value_text = "1200", .threshold_text = "1000",
		.at_us = WALL_US, .since_us = WALL_US - 600 * USEC_PER_SEC,
		.duration_us = 600 * USEC_PER_SEC,
		.for_us = 300 * USEC_PER_SEC,
		.summary = "queue orders: queue.backlog is 1200 (limit: > "
		    "1000) for 10min",
		.instance = "client-sample",
	};
}

/* The members as Slack reads them. The caller frees. */
static json_t *
message(const struct alert_event *e, unsigned times)
{
	struct buffer b = BUFFER_INIT;
	json_t *j;

	buffer_add_char(&b, '{');
	slack_message(&b, e, &place, times);
	buffer_add_char(&b, '}');
	j = json_loadb(buffer_head(&b), buffer_len(&b), JSON_REJECT_DUPLICATES,
	    NULL);
	assert_non_null(j);
	buffer_done(&b);
	return j;
}

static const char *
string(json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	assert_non_null(s);
	return s;
}

/* Characters, as Slack counts. */
static size_t
characters(const char *s)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void
check_limits(json_t *j)
{
	json_t *blocks = json_object_get(j, "blocks"), *block, *field;
	size_t i, k;

	assert_in_range(json_array_size(blocks), 1, 50);
	assert_in_range(characters(string(j, "text")), 1, 4000);
	json_array_foreach(blocks, i, block) {
		json_t *text = json_object_get(block, "text");
		json_t *fields = json_object_get(block, "fields");

		assert_string_equal(string(block, "type"), "section");
		if (text != NULL)
			assert_in_range(characters(string(text, "text")), 1,
			    3000);
		if (fields != NULL)
			assert_in_range(json_array_size(fields), 1, 10);
		json_array_foreach(fields, k, field)
			assert_in_range(characters(string(field, "text")), 1,
			    2000);
	}
}

static const char *
escape(const char *text, size_t max)
{
	static char out[8192];
	struct buffer b = BUFFER_INIT;

	(void)slack_escape(&b, slice_of(text), max);
	snprintf(out, sizeof(out), "%s", buffer_cstr(&b));
	buffer_done(&b);
	return out;
}

static void
test_exactly_three_are_escaped(void **state)
{
	(void)state;
	assert_string_equal(escape("a & b <c> \"d\" 'e' *f* _g_ &amp;", 1000),
	    "a &amp; b &lt;c&gt; \"d\" 'e' *f* _g_ &amp;amp;");
	assert_string_equal(escape("<!channel> <@U1|x>", 1000),
	    "&lt;!channel&gt; &lt;@U1|x&gt;");
	assert_string_equal(escape("", 10), "");
}

static void
test_cuts_are_between_characters(void **state)
{
	(void)state;
	assert_string_equal(escape("abcdef", 6), "abcdef");
	assert_string_equal(escape("abcdefg", 6), "abc...");
	/* Never inside of an escape, nor of a character. */
	assert_string_equal(escape("ab&cdefg", 9), "ab...");
	assert_string_equal(escape("ab&cdefg", 10), "ab&amp;...");
	assert_string_equal(escape("ab\xc3\xa9" "defg", 6), "ab...");
	assert_string_equal(escape("ab\xc3\xa9" "defg", 7), "ab\xc3\xa9...");
}

static void
test_a_firing_alert(void **state)
{
	struct recent_line line = { .at_us = WALL_US,
		.level = LOG_LEVEL_WARNING,
		.text = "attempt 1 of 5 failed: ```db <down>```" };
	struct alert_event e = event();
	json_t *j, *blocks, *fields;
	char *all;

	(void)state;
	e.text = "Customers wait & wait.";
	e.runbook = "https://wiki.example.org/orders";
	e.lines[0] = &line;
	e.nlines = 1;
	j = message(&e, 1);
	check_limits(j);
	assert_string_equal(string(j, "text"), "CRITICAL client-sample@host-1: "
	    "queue orders: queue.backlog is 1200 (limit: &gt; 1000) for "
	    "10min");
	blocks = json_object_get(j, "blocks");
	assert_int_equal(json_array_size(blocks), 5);
	assert_string_equal(string(json_object_get(json_array_get(blocks, 0),
	    "text"), "text"), ":rotating_light: *CRITICAL* queue orders: "
	    "queue.backlog is 1200 (limit: &gt; 1000) for 10min");
	fields = json_object_get(json_array_get(blocks, 1), "fields");
	assert_int_equal(json_array_size(fields), 6);
	assert_string_equal(string(json_array_get(fields, 2), "text"),
	    "*Queue*\norders");
	assert_string_equal(string(json_array_get(fields, 4), "text"),
	    "*For*\n10min, since 2026-11-23T15:50:00Z");
	assert_string_equal(string(json_object_get(json_array_get(blocks, 2),
	    "text"), "text"), "Customers wait &amp; wait.");
	/* What would end the code is not in it. */
	assert_string_equal(string(json_object_get(json_array_get(blocks, 3),
	    "text"), "text"), "*Last warnings*\n```2026-11-23T16:00:00Z "
	    "attempt 1 of 5 failed: '''db &lt;down&gt;'''```");
	assert_string_equal(string(json_object_get(json_array_get(blocks, 4),
	    "text"), "text"), "*Look at*\n- https://wiki.example.org/orders\n"
	    "- `botctl -i client-sample status`\n"
	    "- `journalctl -t bot-operator -p warning -n 50 "
	    "BOT_QUEUE=orders`");
	all = json_dumps(j, 0);
	assert_null(strstr(all, "times"));
	free(all);
	json_decref(j);
}

static void
test_resolved_and_repeats(void **state)
{
	struct alert_event e = event();
	struct buffer b = BUFFER_INIT;
	json_t *j;

	(void)state;
	e.kind = ALERT_EVENT_RESOLVED;
	j = message(&e, 1);
	check_limits(j);
	assert_ptr_equal(strstr(string(j, "text"), "RESOLVED client-sample@"),
	    string(j, "text"));
	/* Nothing to look at any more. */
	assert_int_equal(json_array_size(json_object_get(j, "blocks")), 2);
	json_decref(j);
	e.kind = ALERT_EVENT_REPEAT;
	slack_reply(&b, &e, 3);
	assert_string_equal(buffer_cstr(&b), "\"text\":\"CRITICAL "
	    "client-sample: queue orders: queue.backlog is 1200 (limit: &gt; "
	    "1000) for 10min (still) (3 times)\"");
	buffer_done(&b);
}

static void
test_the_longest_of_everything_fits(void **state)
{
	static char long_text[4001], name[256];
	struct recent_line line = { .at_us = WALL_US };
	struct alert_event e = event();
	json_t *j;

	(void)state;
	memset(long_text, '&', sizeof(long_text) - 1);
	memset(name, '>', sizeof(name) - 1);
	memset(line.text, '<', sizeof(line.text) - 1);
	e.summary = e.text = e.runbook = long_text;
	e.rule = e.subject = e.instance = e.when = name;
	for (e.nlines = 0; e.nlines < RECENT_LINES; e.nlines++)
		e.lines[e.nlines] = &line;
	j = message(&e, 1000);
	check_limits(j);
	json_decref(j);
}

static void
test_words_of_a_command_are_quoted(void **state)
{
	struct alert_event e = event();
	json_t *j;
	char *all;

	(void)state;
	e.subject = "it's; rm `x`";
	j = message(&e, 1);
	all = json_dumps(j, 0);
	assert_non_null(strstr(all, "BOT_QUEUE='it'\\\\''s; rm 'x''`"));
	free(all);
	json_decref(j);
}

static void
test_a_notice_is_whole(void **state)
{
	static char text[3001];
	struct alert_event e = { .kind = ALERT_EVENT_NOTICE,
		.severity = ALERT_WARNING, .rule = "", .subject = "",
		.subject_title = "", .summary = text, .instance = "i" };
	json_t *j, *block;
	size_t i, n = 0;

	(void)state;
	/* Three bytes each, so that no part ends where a character does. */
	for (i = 0; i + 3 < sizeof(text); i += 3)
		memcpy(text + i, "\xe2\x82\xac", 3);
	j = message(&e, 1);
	check_limits(j);
	json_array_foreach(json_object_get(j, "blocks"), i, block)
		if (i > 0)
			n += characters(string(json_object_get(block, "text"),
			    "text"));
	assert_int_equal(n, 1000);
	json_decref(j);
	/* What is no UTF-8 is shown as such and ends in any case. */
	memset(text, 0xff, sizeof(text) - 1);
	j = message(&e, 1);
	check_limits(j);
	json_decref(j);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exactly_three_are_escaped),
		cmocka_unit_test(test_cuts_are_between_characters),
		cmocka_unit_test(test_a_firing_alert),
		cmocka_unit_test(test_resolved_and_repeats),
		cmocka_unit_test(test_the_longest_of_everything_fits),
		cmocka_unit_test(test_words_of_a_command_are_quoted),
		cmocka_unit_test(test_a_notice_is_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
