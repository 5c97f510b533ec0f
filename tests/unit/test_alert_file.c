/*
 * What of the alerts survives a restart: the state file.
 */
#include "unit/alert_rig.h"

#define RULE	"[Alert deep]\nWhen=queue.backlog > 100\nFor=10min\n"

static void
test_a_restart_goes_on_counting(void **state)
{
	struct world *w = *state;

	rig_begin(w, RULE "Repeat=1h\n");
	rig_set_backlog(w, 0, 500);
	rig_run(w, 301);
	rig_end(w);
	/* Away for 20 s, which count. The first looks know nothing yet. */
	clock_advance(20 * SEC);
	w->q[0].backlog.sampled_us = 0;
	rig_begin(w, RULE "Repeat=1h\n");
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "pending");
	rig_run(w, 2);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "pending");
	rig_set_backlog(w, 0, 400);
	rig_run(w, 279);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "pending");
	rig_run(w, 1);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "firing");
	assert_int_equal(w->nevents, 1);
	assert_int_equal(w->events[0].since_us, WALL_US + SEC);
	/* What fires is not told again after a restart... */
	rig_end(w);
	clock_advance(5 * SEC);
	rig_begin(w, RULE "Repeat=1h\n");
	rig_run(w, 10);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "firing");
	assert_int_equal(w->nevents, 1);
	/* ... but at its time, and when it is over. */
	rig_run(w, 3585);
	assert_int_equal(w->nevents, 2);
	assert_int_equal(w->events[1].kind, ALERT_EVENT_REPEAT);
	rig_set_backlog(w, 0, 0);
	rig_run(w, 1);
	assert_int_equal(w->nevents, 3);
	assert_int_equal(w->events[2].kind, ALERT_EVENT_RESOLVED);
	assert_false(rig_logged(w, "alert states"));
}

/* Killed: only what was on disk counts, and that is at most 10 s old. */
static void
test_being_killed_forgets_nothing(void **state)
{
	char copy[128], command[256];
	struct world *w = *state;

	rig_begin(w, RULE);
	rig_set_backlog(w, 0, 500);
	rig_run(w, 309);
	snprintf(copy, sizeof(copy), "%s/copy", w->dir);
	snprintf(command, sizeof(command), "cp %s %s", w->path, copy);
	assert_int_equal(system(command), 0);
	rig_end(w);
	snprintf(command, sizeof(command), "mv %s %s", copy, w->path);
	assert_int_equal(system(command), 0);
	clock_advance(SEC);
	rig_begin(w, RULE);
	rig_run(w, 290);
	assert_int_equal(w->nevents, 0);
	rig_run(w, 1);
	assert_int_equal(w->nevents, 1);
}

/* A sink that has a note for each alert, and may not have told it yet. */
static bool memo_waits;
static char recalled[128];

static json_t *
on_memo(struct alert_sink *s, const char *rule, const char *title, bool *waits)
{
	(void)s;
	*waits = memo_waits;
	return json_sprintf("note of %s/%s", rule, title);
}

static void
on_recall(struct alert_sink *s, const char *rule, const char *title,
    const json_t *memo)
{
	(void)s;
	snprintf(recalled, sizeof(recalled), "%s %s: %s", rule, title,
	    json_string_value(memo));
}

static void
begin_with_memos(struct world *w, const char *rules)
{
	memo_waits = false;
	recalled[0] = '\0';
	w->sink.memo = on_memo;
	w->sink.recall = on_recall;
	rig_begin(w, rules);
}

static void
test_a_restart_keeps_what_sinks_know(void **state)
{
	static const char rules[] = "[Alert x]\nWhen=queue.backlog > 1\n"
	    "For=5s\n";
	struct world *w = *state;

	begin_with_memos(w, rules);
	rig_set_backlog(w, 0, 9);
	rig_run(w, 7);
	assert_int_equal(w->nevents, 1);
	/* The sink goes before the alerts do, and comes after them. */
	rig_end(w);
	begin_with_memos(w, rules);
	assert_string_equal(recalled, "x queue:orders: note of x/queue:orders");
	rig_run(w, 3);
	assert_int_equal(w->nevents, 1);	/* not told again */
	/* A sink that is taken away and comes back has it again. */
	recalled[0] = '\0';
	alerts_remove_sink(w->a, &w->sink);
	rig_run(w, 15);				/* written meanwhile */
	alerts_add_sink(w->a, &w->sink);
	assert_string_equal(recalled, "x queue:orders: note of x/queue:orders");
	/* Over and told: nothing is kept. */
	rig_set_backlog(w, 0, 0);
	rig_run(w, 2);
	assert_int_equal(w->nevents, 2);
	rig_end(w);
	begin_with_memos(w, rules);
	assert_string_equal(recalled, "");
	rig_run(w, 3);
	assert_int_equal(w->nevents, 2);
}

static void
test_a_restart_tells_what_was_not_delivered(void **state)
{
	static const char rules[] = "[Alert x]\nWhen=queue.backlog > 1\n"
	    "For=5s\n";
	struct world *w = *state;

	begin_with_memos(w, rules);
	rig_set_backlog(w, 0, 9);
	memo_waits = true;
	rig_run(w, 7);
	assert_int_equal(w->nevents, 1);
	rig_end(w);
	begin_with_memos(w, rules);
	rig_run(w, 1);
	assert_int_equal(w->nevents, 2);
	assert_int_equal(w->events[1].kind, ALERT_EVENT_FIRING);
	assert_string_equal(rig_state(w, "x", "queue:orders"), "firing");
	/* The end waits too: it is told after the restart. */
	rig_set_backlog(w, 0, 0);
	memo_waits = true;
	rig_run(w, 2);
	assert_int_equal(w->nevents, 3);
	rig_end(w);
	begin_with_memos(w, rules);
	rig_run(w, 1);
	assert_int_equal(w->nevents, 4);
	assert_int_equal(w->events[3].kind, ALERT_EVENT_RESOLVED);
	rig_end(w);
	begin_with_memos(w, rules);
	rig_run(w, 2);
	assert_int_equal(w->nevents, 4);
}

static void
test_a_long_absence_counts_little(void **state)
{
	struct world *w = *state;

	rig_begin(w, RULE);
	rig_set_backlog(w, 0, 500);
	rig_run(w, 301);
	rig_end(w);
	clock_advance(3 * 86400 * SEC);
	rig_begin(w, RULE);
	rig_run(w, 239);
	assert_int_equal(w->nevents, 0);
	rig_run(w, 1);
	assert_int_equal(w->nevents, 1);
}

/* While we were away the wall clock was set back by a day. */
static void
test_a_clock_that_jumps(void **state)
{
	struct world *w = *state;
	uint64_t id;
	struct buffer why = BUFFER_INIT;

	rig_begin(w, RULE);
	rig_set_backlog(w, 0, 500);
	rig_run(w, 301);
	assert_int_equal(alerts_silence(w->a, "other", 3600 * SEC, "", "", &id,
	    &why), 0);
	rig_end(w);
	clock_set_virtual(clock_monotonic_us(), WALL_US - 86400 * SEC);
	rig_begin(w, RULE);
	rig_run(w, 299);
	assert_int_equal(w->nevents, 0);
	rig_run(w, 1);
	assert_int_equal(w->nevents, 1);
	assert_int_equal(w->events[0].since_us, WALL_US - 86400 * SEC);
	/* The silence lasts as long as it was meant to. */
	rig_run(w, 3299);
	assert_int_equal(rig_count_silences(w), 1);
	rig_run(w, 1);
	assert_int_equal(rig_count_silences(w), 0);
	buffer_done(&why);
}

static void
write_file(const struct world *w, const char *text)
{
	FILE *f = fopen(w->path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
}

static void
test_a_broken_file_is_put_aside(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "", "broken in line" },
		{ "{\"version\":1,\"saved_us\":17", "broken in line 1" },
		{ "[]", "no file of alert states" },
		{ "{\"version\":2}", "version 2, not 1" },
		{ "{\"version\":1,\"saved_us\":1}", "something is missing" },
		{ "{\"version\":1,\"saved_us\":1,\"next_silence\":1,"
		    "\"alerts\":[{\"rule\":\"deep\"}],\"silences\":[]}",
		    "alert 1 in it makes no sense" },
		{ "{\"version\":1,\"saved_us\":1,\"next_silence\":1,"
		    "\"alerts\":[],\"silences\":[{\"id\":1,\"pattern\":\"*\","
		    "\"reason\":\"\",\"by\":\"\",\"from_us\":1,\"span_us\":5,"
		    "\"left_us\":6}]}", "silence 1 in it makes no sense" },
	};
	struct world *w = *state;
	char aside[128];
	struct stat st;

	snprintf(aside, sizeof(aside), "%s.broken", w->path);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		write_file(w, cases[i].text);
		w->log_bytes = 0;
		rig_begin(w, RULE);
		if (!rig_logged(w, cases[i].why))
			fail_msg("%s: %s", cases[i].text, w->log);
		assert_true(rig_logged(w, "begin anew"));
		assert_int_equal(stat(aside, &st), 0);
		rig_set_backlog(w, 0, 500);
		rig_run(w, 2);
		assert_string_equal(rig_state(w, "deep", "queue:orders"),
		    "pending");
		rig_end(w);
		/* And the next start finds a good one. */
		w->log_bytes = 0;
		w->log[0] = '\0';
		rig_begin(w, RULE);
		assert_string_equal(rig_state(w, "deep", "queue:orders"),
		    "pending");
		assert_false(rig_logged(w, "begin anew"));
		rig_end(w);
	}
}

static void
test_an_unwritable_folder_is_said_once(void **state)
{
	struct world *w = *state;
	const char *at;

	/* A file where the folder should be: that stops root too. */
	write_file(w, "");
	assert_int_equal(unlink(w->path), 0);
	snprintf(w->path, sizeof(w->path), "%s/file/x.json", w->dir);
	{
		char file[128];
		FILE *f;

		snprintf(file, sizeof(file), "%s/file", w->dir);
		f = fopen(file, "w");
		assert_non_null(f);
		(void)fclose(f);
	}
	rig_begin(w, RULE);
	rig_set_backlog(w, 0, 500);
	rig_run(w, 60);
	at = strstr(w->log, "cannot be saved at");
	assert_non_null(at);
	assert_non_null(strstr(at, "Not a directory"));
	assert_null(strstr(at + 1, "cannot be saved at"));
	rig_run(w, 600);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "firing");
	/* It works again: that is said, and the state is there. */
	{
		char file[128];

		snprintf(file, sizeof(file), "%s/file", w->dir);
		assert_int_equal(unlink(file), 0);
	}
	rig_run(w, 11);
	assert_true(rig_logged(w, "are saved at"));
	rig_end(w);
	rig_begin(w, RULE);
	assert_string_equal(rig_state(w, "deep", "queue:orders"), "firing");
}

static void
test_nothing_to_say_makes_no_file(void **state)
{
	struct world *w = *state;
	struct stat st;

	rig_begin(w, RULE);
	rig_set_backlog(w, 0, 5);
	rig_run(w, 100);
	rig_end(w);
	assert_int_equal(stat(w->path, &st), -1);
}

#define TEST(name)	cmocka_unit_test_setup_teardown(name, rig_setup, \
			    rig_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_restart_goes_on_counting),
		TEST(test_being_killed_forgets_nothing),
		TEST(test_a_restart_keeps_what_sinks_know),
		TEST(test_a_restart_tells_what_was_not_delivered),
		TEST(test_a_long_absence_counts_little),
		TEST(test_a_clock_that_jumps),
		TEST(test_a_broken_file_is_put_aside),
		TEST(test_an_unwritable_folder_is_said_once),
		TEST(test_nothing_to_say_makes_no_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
