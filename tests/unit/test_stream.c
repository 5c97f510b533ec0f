/* A stream that is up: time, shares, ends; plain, on a real loop. */
#include "net_rig.h"

#include <signal.h>
#include <sys/wait.h>

/* ---- time ---- */

/* So long with nothing but the clock going on. */
static void
quiet(struct rig *r, uint64_t us)
{
	clock_advance(us);
	for (int i = 0; i < 3; i++)
		assert_true(loop_turn(r->loop, 0) >= 0);
}

static void
test_idle_timeout(void **state)
{
	struct rig *r = *state;
	struct stream_params p = { .idle_timeout_us = 80000 };
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	clock_set_virtual(clock_monotonic_us(), clock_realtime_us());
	end_accept(&r->client, fds[0], &p);
	quiet(r, 0);
	assert_int_equal(r->client.ups, 1);
	quiet(r, 50000);
	assert_int_equal(write(fds[1], "x", 1), 1);
	quiet(r, 0);
	assert_true(end_got(&r->client, "x"));
	/* Counted from the byte, not from the start. */
	quiet(r, 79000);
	assert_int_equal(r->client.downs, 0);
	quiet(r, 2000);
	clock_set_real();
	assert_int_equal(r->client.downs, 1);
	assert_string_equal(r->client.err.code, "idle_timeout");
	assert_int_equal(r->client.err.class, ERROR_TRANSIENT);
	(void)close(fds[1]);
}

static void
test_idle_timeout_not_while_paused(void **state)
{
	struct rig *r = *state;
	uint64_t start;
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	end_accept(&r->client, fds[0], NULL);
	RUN_UNTIL(r, r->client.ups == 1);
	stream_pause(&r->client.s, true);
	stream_set_idle_timeout(&r->client.s, 20000);
	start = clock_monotonic_us();
	RUN_UNTIL(r, clock_monotonic_us() > start + 60000);
	assert_int_equal(r->client.downs, 0);
	stream_pause(&r->client.s, false);
	assert_int_equal(r->client.downs, 0);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, "idle_timeout");

	/* Set later, counted from then; and taken back. */
	(void)close(fds[1]);
	make_pair(SOCK_STREAM, fds);
	end_accept(&r->client, fds[0], NULL);
	RUN_UNTIL(r, r->client.ups == 2);
	stream_set_idle_timeout(&r->client.s, 10000);
	stream_set_idle_timeout(&r->client.s, 0);
	start = clock_monotonic_us();
	RUN_UNTIL(r, clock_monotonic_us() > start + 30000);
	assert_int_equal(r->client.downs, 1);
	stream_set_idle_timeout(&r->client.s, 10000);
	RUN_UNTIL(r, r->client.downs == 2);
	(void)close(fds[1]);
}

static void
test_idle_buffers_are_given_back(void **state)
{
	struct rig *r = *state;
	char block[30000] = "";
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	end_accept(&r->client, fds[0], NULL);
	RUN_UNTIL(r, r->client.ups == 1);
	for (int i = 0; i < 6; i++) {
		assert_true(write(fds[1], block, sizeof(block)) > 0);
		RUN_UNTIL(r, buffer_len(&r->client.got) >=
		    sizeof(block) * ((size_t)i + 1));
	}
	assert_true(r->client.s.in.size >= 16384);
	clock_set_virtual(clock_monotonic_us(), clock_realtime_us());
	for (int i = 0; i < 5; i++) {
		clock_advance(3 * USEC_PER_SEC);
		assert_true(loop_turn(r->loop, 0) >= 0);
	}
	clock_set_real();
	assert_int_equal(r->client.s.in.size, 0);
	assert_false(timer_armed(&r->client.s.timer));
	assert_int_equal(write(fds[1], "x", 1), 1);
	RUN_UNTIL(r, buffer_len(&r->client.got) == 6 * sizeof(block) + 1);
	(void)close(fds[1]);
}

/* ---- shares ---- */

static pid_t
fork_flood(int fd)
{
	static char block[65536];
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid != 0)
		return pid;
	(void)fcntl(fd, F_SETFL, 0);
	while (send(fd, block, sizeof(block), MSG_NOSIGNAL) > 0)
		;
	_exit(0);
}

static void
drop_all(struct end *e)
{
	buffer_clear(&e->got);
}

static void
test_busy_stream_starves_nobody(void **state)
{
	struct rig *r = *state;
	struct stream_params p = { .read_budget = 65536 };
	int flood[2], pair[2], trips = 0, turns = 0;
	uint64_t before;
	pid_t pid;

	make_pair(SOCK_STREAM, flood);
	make_pair(SOCK_STREAM, pair);
	pid = fork_flood(flood[1]);
	(void)close(flood[1]);
	end_accept(&r->server, flood[0], &p);
	r->server.echo = false;
	r->server.on_data = drop_all;
	end_accept(&r->client, pair[0], NULL);
	r->client.echo = true;
	r->client.on_data = drop_all;
	RUN_UNTIL(r, r->server.s.bytes_in > 4 * MIB);
	while (trips < 100) {
		char c;

		assert_int_equal(write(pair[1], "x", 1), 1);
		for (c = 0; c == 0; turns++) {
			before = r->server.s.bytes_in;
			assert_true(loop_turn(r->loop, 0) >= 0);
			assert_true(r->server.s.bytes_in - before <=
			    p.read_budget + 65536);
			(void)!read(pair[1], &c, 1);
		}
		trips++;
	}
	/* The answer leaves in the turn that the question came. */
	assert_true(turns <= 200);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	(void)close(pair[1]);
}

static void
test_writes_of_a_turn_leave_together(void **state)
{
	struct rig *r = *state;
	char in[100];
	int fds[2];

	make_pair(SOCK_SEQPACKET, fds);	/* one packet for each write */
	end_accept(&r->client, fds[0], NULL);
	end_say(&r->client, "before ");
	RUN_UNTIL(r, r->client.ups == 1);
	end_say(&r->client, "a");
	end_say(&r->client, "b");
	buffer_add_str(stream_out(&r->client.s), "c");
	stream_flush(&r->client.s);
	RUN_UNTIL(r, stream_pending(&r->client.s) == 0);
	assert_int_equal(read(fds[1], in, sizeof(in)), 7);
	assert_memory_equal(in, "before ", 7);
	assert_int_equal(read(fds[1], in, sizeof(in)), 3);
	assert_memory_equal(in, "abc", 3);
	(void)close(fds[1]);
}

static void
pump_into(struct buffer *b, int fd)
{
	ssize_t n = read(fd, buffer_reserve(b, 65536), 65536);

	if (n > 0)
		buffer_commit(b, (size_t)n);
}

static void
test_backpressure(void **state)
{
	struct rig *r = *state;
	struct buffer got = BUFFER_INIT;
	size_t total = 8 * MIB;
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	end_accept(&r->client, fds[0], NULL);
	RUN_UNTIL(r, r->client.ups == 1);
	write_pattern(&r->client.s, total);
	for (int i = 0; i < 20; i++)
		assert_true(loop_turn(r->loop, 1000) >= 0);
	assert_int_equal(r->client.drained, 0);
	assert_true(stream_pending(&r->client.s) > 256 * KIB);
	while (buffer_len(&got) < total) {
		assert_true(loop_turn(r->loop, 1000) >= 0);
		pump_into(&got, fds[1]);
	}
	assert_int_equal(r->client.drained, 1);
	assert_int_equal(stream_pending(&r->client.s), 0);
	check_pattern(&got, total);
	/* A small write later is no backpressure. */
	end_say(&r->client, "x");
	RUN_UNTIL(r, stream_pending(&r->client.s) == 0);
	assert_int_equal(r->client.drained, 1);
	buffer_done(&got);
	(void)close(fds[1]);
}

static void
test_pause(void **state)
{
	struct rig *r = *state;
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	end_accept(&r->client, fds[0], NULL);
	RUN_UNTIL(r, r->client.ups == 1);
	stream_pause(&r->client.s, true);
	assert_int_equal(write(fds[1], "abc", 3), 3);
	for (int i = 0; i < 5; i++)
		assert_true(loop_turn(r->loop, 1000) >= 0);
	assert_int_equal(r->client.rounds, 0);
	stream_pause(&r->client.s, false);
	RUN_UNTIL(r, end_got(&r->client, "abc"));
	(void)close(fds[1]);
}

/* ---- ends ---- */

static void
keep_and_pause(struct end *e)
{
	stream_pause(&e->s, true);
}

static void
test_unread_input_comes_before_the_end(void **state)
{
	struct rig *r = *state;
	struct loop_stats before, after;
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	r->client.keep = true;
	r->client.on_data = keep_and_pause;
	end_accept(&r->client, fds[0], NULL);
	RUN_UNTIL(r, r->client.ups == 1);
	assert_int_equal(write(fds[1], "first", 5), 5);
	RUN_UNTIL(r, r->client.rounds == 1);
	assert_int_equal(write(fds[1], " last", 5), 5);
	(void)close(fds[1]);
	loop_get_stats(r->loop, &before);
	for (int i = 0; i < 5; i++)
		assert_true(loop_turn(r->loop, 2000) >= 0);
	loop_get_stats(r->loop, &after);
	/* The hang-up is told once, not at each turn. */
	assert_true(after.callbacks - before.callbacks < 4);
	assert_int_equal(r->client.downs, 0);
	r->client.keep = false;
	r->client.on_data = NULL;
	stream_pause(&r->client.s, false);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_true(end_got(&r->client, "first last"));
	assert_string_equal(r->client.err.code, "eof");
}

static void
test_last_words_after_a_failed_write(void **state)
{
	struct rig *r = *state;
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	end_accept(&r->client, fds[0], NULL);
	RUN_UNTIL(r, r->client.ups == 1);
	assert_int_equal(write(fds[1], "why", 3), 3);
	(void)close(fds[1]);
	stream_pause(&r->client.s, true);
	end_say(&r->client, "too late");
	for (int i = 0; i < 3; i++)
		assert_true(loop_turn(r->loop, 1000) >= 0);
	assert_int_equal(r->client.downs, 0);
	stream_pause(&r->client.s, false);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_true(end_got(&r->client, "why"));
	assert_int_equal(r->client.err.class, ERROR_TRANSIENT);
}

static void
test_input_too_long(void **state)
{
	struct rig *r = *state;
	struct stream_params p = { .max_unread = 1000 };
	char block[1001] = "";
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	r->client.keep = true;
	end_accept(&r->client, fds[0], &p);
	assert_int_equal(write(fds[1], block, 1000), 1000);
	RUN_UNTIL(r, r->client.rounds == 1);
	assert_int_equal(r->client.downs, 0);
	assert_int_equal(write(fds[1], block, 1), 1);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, "input_too_long");
	assert_int_equal(r->client.err.class, ERROR_PROTOCOL);
	(void)close(fds[1]);
}

static void
test_half_closed_peer_gets_its_answer(void **state)
{
	struct rig *r = *state;
	char in[10];
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	r->client.echo = true;
	end_accept(&r->client, fds[0], NULL);
	assert_int_equal(write(fds[1], "ping", 4), 4);
	assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, "eof");
	assert_int_equal(read(fds[1], in, sizeof(in)), 4);
	(void)close(fds[1]);
}

static void
test_close_flushed(void **state)
{
	struct rig *r = *state;
	struct buffer got = BUFFER_INIT;
	int fds[2];
	char c;

	make_pair(SOCK_STREAM, fds);
	end_accept(&r->client, fds[0], NULL);
	RUN_UNTIL(r, r->client.ups == 1);
	write_pattern(&r->client.s, 2 * MIB);
	stream_close_flushed(&r->client.s);
	end_say(&r->client, "never");
	assert_int_equal(r->client.downs, 0);
	while (r->client.downs == 0) {
		assert_true(loop_turn(r->loop, 1000) >= 0);
		pump_into(&got, fds[1]);
	}
	while (buffer_len(&got) < 2 * MIB)
		pump_into(&got, fds[1]);
	check_pattern(&got, 2 * MIB);
	assert_int_equal(read(fds[1], &c, 1), 0);
	assert_string_equal(r->client.err.code, "closed");
	buffer_done(&got);
	(void)close(fds[1]);
}

static void
test_close_flushed_gives_up(void **state)
{
	struct rig *r = *state;
	struct stream_params p = { .handshake_timeout_us = 30000 };
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	end_accept(&r->client, fds[0], &p);
	RUN_UNTIL(r, r->client.ups == 1);
	write_pattern(&r->client.s, 2 * MIB);
	stream_close_flushed(&r->client.s);
	RUN_UNTIL(r, r->client.downs == 1);
	assert_string_equal(r->client.err.code, "close_timeout");

	/* Also before it is up. */
	(void)close(fds[1]);
	make_pair(SOCK_STREAM, fds);
	end_accept(&r->client, fds[0], &p);
	stream_close_flushed(&r->client.s);
	RUN_UNTIL(r, r->client.downs == 2);
	assert_int_equal(r->client.ups, 1);
	(void)close(fds[1]);
}

/* ---- closing and freeing where it hurts ---- */

static void
close_it(struct end *e)
{
	stream_close(&e->s);
}

static void
free_it(struct end *e)
{
	e->rig->accepted = -1;		/* tells that it ran */
	end_done(e);
	free(e);
}

static void
close_flushed_it(struct end *e)
{
	stream_close_flushed(&e->s);
}

enum where { ON_UP, ON_DATA, ON_DRAINED, ON_DOWN };

static void
set_hook(struct end *e, enum where w, end_hook *hook)
{
	if (w == ON_UP)
		e->on_up = hook;
	else if (w == ON_DATA)
		e->on_data = hook;
	else if (w == ON_DRAINED)
		e->on_drained = hook;
	else
		e->on_down = hook;
}

/* Brings the end to the callback: it goes up, is sent to, drains, ends. */
static void
live_through(struct rig *r, struct end *e, enum where w)
{
	struct buffer got = BUFFER_INIT;
	int fds[2];

	make_pair(SOCK_STREAM, fds);
	r->accepted = 0;
	end_accept(e, fds[0], NULL);
	if (w == ON_DRAINED) {
		write_pattern(&e->s, MIB);
		for (int i = 0; i < 200; i++) {
			assert_true(loop_turn(r->loop, 0) >= 0);
			pump_into(&got, fds[1]);
		}
	}
	(void)send(fds[1], "x", 1, MSG_NOSIGNAL);	/* perhaps closed */
	for (int i = 0; i < 5; i++)
		assert_true(loop_turn(r->loop, 0) >= 0);
	(void)close(fds[1]);
	for (int i = 0; i < 5; i++)
		assert_true(loop_turn(r->loop, 0) >= 0);
	buffer_done(&got);
}

static void
test_close_inside_callbacks(void **state)
{
	struct rig *r = *state;

	for (enum where w = ON_UP; w <= ON_DRAINED; w++) {
		set_hook(&r->client, w, close_it);
		live_through(r, &r->client, w);
		assert_int_equal(r->client.s.state, STREAM_IDLE);
		assert_int_equal(r->client.downs, 0);
		set_hook(&r->client, w, NULL);
	}
}

static void
test_close_flushed_inside_callbacks(void **state)
{
	struct rig *r = *state;

	for (enum where w = ON_UP; w <= ON_DRAINED; w++) {
		set_hook(&r->client, w, close_flushed_it);
		r->client.downs = 0;
		live_through(r, &r->client, w);
		assert_int_equal(r->client.downs, 1);
		assert_string_equal(r->client.err.code, "closed");
		set_hook(&r->client, w, NULL);
	}
}

static void
test_free_inside_callbacks(void **state)
{
	struct rig *r = *state;

	for (enum where w = ON_UP; w <= ON_DOWN; w++) {
		struct end *e = new0(struct end);

		end_init(e, r, "mortal");
		set_hook(e, w, free_it);
		live_through(r, e, w);
		assert_int_equal(r->accepted, -1);
	}
}

static void
reconnect(struct end *e)
{
	if (e->downs < 3)
		stream_connect(&e->s, e->rig->loop, e->rig->resolver,
		    &e->rig->listener.bound, NULL);
}

static void
reconnect_now(struct end *e)
{
	e->on_data = NULL;
	stream_close(&e->s);
	reconnect(e);
}

static void
test_reconnect_inside_callbacks(void **state)
{
	struct rig *r = *state;
	struct address a;
	int fd = raw_listen(1, &a);

	(void)close(fd);
	r->listener.bound = a;		/* nobody there: three refusals */
	r->client.on_down = reconnect;
	end_connect(&r->client, &a, NULL);
	RUN_UNTIL(r, r->client.downs == 3);
	assert_int_equal(r->client.s.state, STREAM_IDLE);

	rig_listen(r, "127.0.0.1:0");
	r->client.downs = 0;
	r->client.on_data = reconnect_now;
	end_connect(&r->client, &r->listener.bound, NULL);
	RUN_UNTIL(r, r->client.ups == 1);
	end_say(&r->client, "x");
	RUN_UNTIL(r, r->client.ups == 2);
	assert_int_equal(r->client.downs, 0);
	end_say(&r->client, "y");
	RUN_UNTIL(r, end_got(&r->client, "xy"));
}

/* ---- others ---- */

static void
count_stream(void *arg, const struct stream *s)
{
	assert_int_not_equal(s->state, STREAM_IDLE);
	++*(int *)arg;
}

static void
test_visit(void **state)
{
	struct rig *r = *state;
	int n = 0, fds[2];

	make_pair(SOCK_STREAM, fds);
	end_accept(&r->client, fds[0], NULL);
	end_accept(&r->server, fds[1], NULL);
	stream_visit(count_stream, &n);
	assert_int_equal(n, 2);
	assert_string_equal(stream_state_name(r->client.s.state), "connecting");
	assert_null(stream_tls_text(&r->client.s));
	stream_close(&r->client.s);
	stream_close(&r->client.s);
	stream_write(&r->client.s, "lost", 4);
	assert_int_equal(stream_pending(&r->client.s), 0);
	n = 0;
	stream_visit(count_stream, &n);
	assert_int_equal(n, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_idle_timeout),
		rig_test(test_idle_timeout_not_while_paused),
		rig_test(test_idle_buffers_are_given_back),
		rig_test(test_busy_stream_starves_nobody),
		rig_test(test_writes_of_a_turn_leave_together),
		rig_test(test_backpressure),
		rig_test(test_pause),
		rig_test(test_unread_input_comes_before_the_end),
		rig_test(test_last_words_after_a_failed_write),
		rig_test(test_input_too_long),
		rig_test(test_half_closed_peer_gets_its_answer),
		rig_test(test_close_flushed),
		rig_test(test_close_flushed_gives_up),
		rig_test(test_close_inside_callbacks),
		rig_test(test_close_flushed_inside_callbacks),
		rig_test(test_free_inside_callbacks),
		rig_test(test_reconnect_inside_callbacks),
		rig_test(test_visit),
	};

	return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
