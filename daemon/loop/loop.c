#include "loop/loop.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#define EVENTS_PER_WAIT	256
#define NO_SLOT		UINT32_MAX

struct io_slot {
	struct io *io;		/* NULL when free */
	uint32_t generation;
};

struct loop {
	int epfd;
	bool quit;
	uint64_t now_us;
	struct io_slot *slots;
	uint32_t nslots;
	struct heap timers;
	struct list phase[LOOP_NPHASES];
	struct loop_stats stats;
	uint64_t turn_us;	/* callbacks of this turn so far */
	bool turn_slow;
};

int
loop_new(struct loop **ret)
{
	struct loop *l;
	int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd < 0)
		return -errno;
	l = new0(struct loop);
	l->epfd = fd;
	heap_init(&l->timers);
	for (int i = 0; i < LOOP_NPHASES; i++)
		list_init(&l->phase[i]);
	l->now_us = clock_monotonic_us();
	*ret = l;
	return 0;
}

void
loop_free(struct loop *l)
{
	if (l == NULL)
		return;
	for (uint32_t i = 0; i < l->nslots; i++)
		if (l->slots[i].io != NULL)
			BUG("descriptor \"%s\" outlives the loop",
			    l->slots[i].io->name);
	if (l->timers.count != 0)
		BUG("timer \"%s\" outlives the loop",
		    container_of(heap_first(&l->timers), struct timer, node)->name);
	for (int i = 0; i < LOOP_NPHASES; i++)
		if (!list_empty(&l->phase[i]))
			BUG("task \"%s\" outlives the loop",
			    list_first_entry(&l->phase[i], struct task, link)->name);
	heap_done(&l->timers);
	free(l->slots);
	(void)close(l->epfd);
	free(l);
}

uint64_t
loop_now_us(const struct loop *l)
{
	return l->now_us;
}

void
loop_quit(struct loop *l)
{
	l->quit = true;
}

/* ---- accounting ---- */

static void
account(struct loop *l, const char *name, uint64_t *start_us)
{
	uint64_t now = clock_monotonic_us(), took = now - *start_us;

	*start_us = now;
	l->now_us = now;
	l->stats.callbacks++;
	l->turn_us += took;
	if (took > l->stats.longest_callback_us) {
		l->stats.longest_callback_us = took;
		l->stats.longest_name = name;
	}
	if (unlikely(took > LOOP_SLOW_US)) {
		l->turn_slow = true;
		log_warning(LOG_EVENT(EVENT_LOOP_SLOW),
		    "the loop was held up for %llu ms by \"%s\"",
		    (unsigned long long)(took / USEC_PER_MSEC), name);
	}
}

/* ---- descriptors ---- */

void
io_init(struct io *io, const char *name, io_fn *fn, void *owner)
{
	*io = (struct io){ .fn = fn, .owner = owner, .name = name, .fd = -1,
		.slot = NO_SLOT };
}

static uint32_t
slot_get(struct loop *l)
{
	uint32_t i, n;

	for (i = 0; i < l->nslots; i++)
		if (l->slots[i].io == NULL)
			return i;
	n = MAX(l->nslots * 2, (uint32_t)32);
	l->slots = xreallocarray(l->slots, n, sizeof(*l->slots));
	memset(l->slots + l->nslots, 0, (n - l->nslots) * sizeof(*l->slots));
	l->nslots = n;
	return i;
}

static uint64_t
io_cookie(const struct loop *l, const struct io *io)
{
	return (uint64_t)l->slots[io->slot].generation << 32 | io->slot;
}

int
io_add(struct loop *l, struct io *io, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events };

	BUG_ON(io_active(io));
	io->slot = slot_get(l);
	ev.data.u64 = io_cookie(l, io);
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	l->slots[io->slot].io = io;
	io->fd = fd;
	io->events = events;
	l->stats.ios++;
	return 0;
}

void
io_set(struct loop *l, struct io *io, uint32_t events)
{
	struct epoll_event ev = { .events = events };

	if (io->events == events)
		return;
	BUG_ON(!io_active(io));
	ev.data.u64 = io_cookie(l, io);
	if (epoll_ctl(l->epfd, EPOLL_CTL_MOD, io->fd, &ev) < 0)
		BUG("epoll_ctl(MOD, \"%s\"): %s", io->name, strerror(errno));
	io->events = events;
}

void
io_remove(struct loop *l, struct io *io)
{
	if (!io_active(io))
		return;
	if (epoll_ctl(l->epfd, EPOLL_CTL_DEL, io->fd, NULL) < 0)
		BUG("epoll_ctl(DEL, \"%s\"): %s", io->name, strerror(errno));
	l->slots[io->slot].io = NULL;
	l->slots[io->slot].generation++;
	io->slot = NO_SLOT;
	io->fd = -1;
	io->events = 0;
	l->stats.ios--;
}

/* ---- timers ---- */

void
timer_init(struct timer *t, const char *name, timer_fn *fn, void *owner)
{
	*t = (struct timer){ .fn = fn, .owner = owner, .name = name };
}

void
timer_arm_at(struct loop *l, struct timer *t, uint64_t due_us)
{
	/* What should have fired long ago waits behind what is due now, so that
	   one which is always late cannot starve the others. */
	due_us = MAX(due_us, l->now_us);
	heap_remove(&l->timers, &t->node);
	heap_insert(&l->timers, &t->node, due_us);
}

void
timer_arm(struct loop *l, struct timer *t, uint64_t delay_us)
{
	timer_arm_at(l, t, sat_add(clock_monotonic_us(), delay_us));
}

void
timer_arm_sooner(struct loop *l, struct timer *t, uint64_t delay_us)
{
	uint64_t due = sat_add(clock_monotonic_us(), delay_us);

	if (!timer_armed(t) || due < timer_due_us(t))
		timer_arm_at(l, t, due);
}

void
timer_cancel(struct loop *l, struct timer *t)
{
	if (!timer_armed(t))
		return;
	heap_remove(&l->timers, &t->node);
}

/* ---- tasks ---- */

void
task_init(struct task *t, enum loop_phase phase, const char *name, task_fn *fn,
    void *owner)
{
	*t = (struct task){ .fn = fn, .owner = owner, .name = name,
		.phase = phase };
	list_init(&t->link);
}

void
task_schedule(struct loop *l, struct task *t)
{
	if (!list_linked(&t->link))
		list_push_back(&l->phase[t->phase], &t->link);
}

void
task_cancel(struct task *t)
{
	list_remove(&t->link);
}

/* ---- the turn ---- */

static bool
tasks_waiting(const struct loop *l)
{
	for (int i = 0; i < LOOP_NPHASES; i++)
		if (!list_empty(&l->phase[i]))
			return true;
	return false;
}

/* How long epoll may sleep, in ms, rounded up so that a timer is really due. */
static int
sleep_ms(const struct loop *l, uint64_t timeout_us)
{
	const struct heap_node *first = heap_first(&l->timers);
	uint64_t now, wait = timeout_us;

	if (tasks_waiting(l))
		return 0;
	if (first != NULL) {
		now = clock_monotonic_us();
		wait = MIN(wait, first->key > now ? first->key - now : 0);
	}
	if (wait == USEC_INFINITY)
		return -1;
	wait = (wait + USEC_PER_MSEC - 1) / USEC_PER_MSEC;
	return (int)MIN(wait, (uint64_t)3600 * 1000);
}

static int
run_ios(struct loop *l, const struct epoll_event *ev, int n)
{
	uint64_t start = l->now_us;
	int ran = 0;

	for (int i = 0; i < n; i++) {
		uint32_t slot = (uint32_t)ev[i].data.u64;
		uint32_t generation = (uint32_t)(ev[i].data.u64 >> 32);
		struct io *io = l->slots[slot].io;
		const char *name;

		if (io == NULL || l->slots[slot].generation != generation)
			continue;
		name = io->name;
		io->fn(io, ev[i].events);
		account(l, name, &start);
		ran++;
	}
	return ran;
}

/* Only what is due now: a timer that re-arms itself at 0 waits a turn. */
static int
run_timers(struct loop *l)
{
	uint64_t start = l->now_us, limit = start, seq = l->timers.seq;
	struct heap_node *first;
	int ran = 0;

	while ((first = heap_first(&l->timers)) != NULL && first->key <= limit &&
	    first->seq < seq) {
		struct timer *t = container_of(first, struct timer, node);
		const char *name = t->name;

		heap_remove(&l->timers, first);
		t->fn(t);
		account(l, name, &start);
		ran++;
	}
	return ran;
}

static int
run_phases(struct loop *l)
{
	uint64_t start = l->now_us;
	int ran = 0;

	for (int i = 0; i < LOOP_NPHASES; i++) {
		LIST_HEAD(now);
		struct list *link;

		list_splice_back(&now, &l->phase[i]);
		while ((link = list_pop_front(&now)) != NULL) {
			struct task *t = list_entry(link, struct task, link);
			const char *name = t->name;

			t->fn(t);
			account(l, name, &start);
			ran++;
		}
	}
	return ran;
}

int
loop_turn(struct loop *l, uint64_t timeout_us)
{
	struct epoll_event ev[EVENTS_PER_WAIT];
	int n, ran;

	n = epoll_wait(l->epfd, ev, EVENTS_PER_WAIT, sleep_ms(l, timeout_us));
	if (n < 0 && errno != EINTR)
		return -errno;
	l->now_us = clock_monotonic_us();
	l->turn_us = 0;
	l->turn_slow = false;
	ran = run_ios(l, ev, MAX(n, 0));
	ran += run_timers(l);
	ran += run_phases(l);
	l->stats.turns++;
	if (l->turn_slow)
		l->stats.slow_turns++;
	if (l->turn_us > l->stats.longest_turn_us)
		l->stats.longest_turn_us = l->turn_us;
	return ran;
}

int
loop_run(struct loop *l)
{
	l->quit = false;
	while (!l->quit) {
		int r = loop_turn(l, USEC_INFINITY);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- to look at ---- */

void
loop_get_stats(const struct loop *l, struct loop_stats *ret)
{
	*ret = l->stats;
	ret->timers = l->timers.count;
}

void
loop_reset_longest(struct loop *l)
{
	l->stats.longest_turn_us = 0;
	l->stats.longest_callback_us = 0;
	l->stats.longest_name = NULL;
	l->stats.slow_turns = 0;
}

void
loop_visit_timers(const struct loop *l, loop_timer_visit_fn *fn, void *arg)
{
	uint64_t now = clock_monotonic_us();

	for (size_t i = 1; i <= l->timers.count; i++) {
		const struct timer *t = container_of(l->timers.at[i],
		    struct timer, node);

		fn(arg, t->name, timer_due_us(t) > now ?
		    timer_due_us(t) - now : 0);
	}
}

void
loop_visit_ios(const struct loop *l, loop_io_visit_fn *fn, void *arg)
{
	for (uint32_t i = 0; i < l->nslots; i++) {
		const struct io *io = l->slots[i].io;

		if (io != NULL)
			fn(arg, io->name, io->fd, io->events);
	}
}
