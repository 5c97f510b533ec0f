/*
 * Module=: a shared object's function, called for each message.
 *
 * Answers are collected while there is input, since a write for each would
 * cost more than a small handler does.  When the module crashes they are
 * written by the signal handler, so that the oldest message without an answer
 * is always the one that did it.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>

#include "base/alloc.h"
#include "bot_module.h"
#include "worker/runner.h"

static struct channel channel;
static bool writing;		/* channel.out is being changed */

static void
touch(const struct bot_message *m, uint64_t extend_ms)
{
	frame_add_touch(&channel.out, m->id, extend_ms);
	channel_flush(&channel);
}

static void
add_answer(uint64_t id, int r, const struct bot_result *result)
{
	enum bot_kind kind = result->kind;
	struct slice type = slice_of(result->error_type);
	struct slice detail = slice_of(result->detail);

	if (r != 0 && kind == BOT_DONE)
		kind = BOT_RETRY;
	if (type.n == 0)
		type = SLICE("internal");
	detail.n = MIN(detail.n, (size_t)4096);
	if (kind == BOT_DONE)
		frame_add_done(&channel.out, id);
	else if (kind == BOT_DEAD)
		frame_add_dead(&channel.out, id, type, detail);
	else
		frame_add_retry(&channel.out, id, result->delay_ms < 0 ?
		    FRAME_DELAY_DEFAULT : (uint64_t)result->delay_ms, type,
		    detail);
}

typedef int handle_fn(const struct bot_message *, struct bot_result *);

static void
handle(handle_fn *fn, const struct frame *f)
{
	static char queue[FRAME_LINE_MAX];
	struct bot_message m = {
		.abi = BOT_MODULE_ABI,
		.attempt = (uint32_t)f->attempt,
		.id = f->id,
		.timeout_ms = f->timeout_ms,
		.queue = queue,
		.attributes = f->attributes.p,
		.attributes_len = f->attributes.n,
		.body = f->body.p,
		.body_len = f->body.n,
		.touch = touch,
	};
	struct bot_result result = {
		.abi = BOT_MODULE_ABI,
		.kind = BOT_DONE,
		.delay_ms = -1,
	};
	int r;

	memcpy(queue, f->word.p, f->word.n);
	queue[f->word.n] = '\0';
	channel_flush_old(&channel);
	r = fn(&m, &result);
	writing = true;
	add_answer(f->id, r, &result);
	writing = false;
}

/* Only what is allowed in a signal handler. */
static void
on_crash(int signo)
{
	const struct buffer *b = &channel.out;

	if (!writing && b->end > b->start)
		(void)!write(RUNNER_FD, b->data + b->start, b->end - b->start);
	/* SA_RESETHAND: this time it is the end. */
	(void)raise(signo);
}

static void
on_module_exit(void)
{
	on_crash(0);
}

static void
catch_crashes(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	static char stack[64 * 1024];
	stack_t alt = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = {
		.sa_handler = on_crash,
		.sa_flags = (int)(SA_RESETHAND | SA_ONSTACK | SA_NODEFER),
	};

	(void)sigaltstack(&alt, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		(void)sigaction(signals[i], &sa, NULL);
	(void)atexit(on_module_exit);
}

/* ISO C has no way from an object pointer to a function pointer; POSIX does. */
static void
find(void *lib, const char *name, void *ret)
{
	void *symbol = dlsym(lib, name);

	memcpy(ret, &symbol, sizeof(symbol));
}

int
run_module(const char *path)
{
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	handle_fn *fn;
	int (*init)(void);
	void (*done)(void);
	struct frame f;

	if (lib == NULL)
		runner_fail(1, "%s", dlerror());
	find(lib, "bot_handle", &fn);
	find(lib, "bot_init", &init);
	find(lib, "bot_done", &done);
	if (fn == NULL)
		runner_fail(1, "%s: no function bot_handle", path);
	catch_crashes();
	if (init != NULL && init() != 0)
		runner_fail(1, "%s: bot_init failed", path);
	frame_add_ready(&channel.out, 1);
	while (channel_next(&channel, &f) && f.kind != FRAME_DRAIN)
		if (f.kind == FRAME_MSG)
			handle(fn, &f);
	channel_flush(&channel);
	if (done != NULL)
		done();
	channel_done(&channel);
	return 0;
}
