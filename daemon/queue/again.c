#include "queue/again.h"

#include "base/clock.h"

#define MIN_US		(250 * USEC_PER_MSEC)
#define MAX_US		(10 * USEC_PER_SEC)
#define RENEWAL_MIN_US	(50 * USEC_PER_MSEC)

static void
timer_fired(struct timer *t)
{
	struct again_list *a = t->owner;
	uint64_t now = clock_monotonic_us(), next = USEC_INFINITY;
	struct list *l, *tmp;

	list_foreach_safe(l, tmp, &a->paused) {
		struct again *one = list_entry(l, struct again, link);

		if (one->due_us <= now)
			a->due(a, one);
		else
			next = MIN(next, one->due_us);
	}
	if (next != USEC_INFINITY)
		timer_arm_at(a->loop, t, next);
}

void
again_init(struct again_list *a, const char *name, struct loop *loop,
    void (*due)(struct again_list *, struct again *))
{
	a->loop = loop;
	a->due = due;
	list_init(&a->paused);
	timer_init(&a->timer, name, timer_fired, a);
}

void
again_stop(struct again_list *a)
{
	timer_cancel(a->loop, &a->timer);
}

bool
again_over(const struct again *one, uint64_t now_us)
{
	return now_us >= one->until_us;
}

void
again_later(struct again_list *a, struct again *one, bool renewal)
{
	uint64_t now = clock_monotonic_us();
	uint64_t delay = MIN(MIN_US << MIN(one->failures - 1, 10u), MAX_US);
	uint64_t left = one->until_us - now;

	if (renewal)
		left = MAX(left / 2, RENEWAL_MIN_US);
	delay = MIN(delay, left);
	one->due_us = sat_add(now, delay);
	list_remove(&one->link);
	list_push_back(&a->paused, &one->link);
	timer_arm_sooner(a->loop, &a->timer, delay);
	a->count++;
}
