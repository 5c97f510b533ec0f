/*
 * The broker's side: where each message is, and the times that end.
 */
#include "sim/sim_internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"

static LIST_HEAD(brokers);

/* ---- the broker ---- */

static void broker_timer_fired(struct timer *);

struct sim_broker *
sim_broker(struct loop *loop, const char *name)
{
	struct sim_broker *b;
	struct list *l;

	list_foreach(l, &brokers) {
		b = list_entry(l, struct sim_broker, link);
		if (strcmp(b->name, name) == 0)
			return b;
	}
	b = new0(struct sim_broker);
	b->name = xstrdup(name);
	b->loop = loop;
	for (int i = 0; i < SIM_NPLACES; i++)
		list_init(&b->place[i]);
	timer_init(&b->timer, "sim.broker", broker_timer_fired, b);
	list_push_back(&brokers, &b->link);
	return b;
}

void
sim_brokers_free(void)
{
	struct list *l;

	while ((l = list_pop_front(&brokers)) != NULL) {
		struct sim_broker *b = list_entry(l, struct sim_broker, link);

		assert_null(b->attached);
		timer_cancel(b->loop, &b->timer);
		for (size_t i = 0; i < b->nall; i++) {
			free(b->all[i]->body);
			free(b->all[i]->deliveries);
			free(b->all[i]);
		}
		free(b->all);
		free(b->name);
		free(b);
	}
}

/* The only writer of a message's place. */
void
sim_move(struct sim_message *s, enum sim_place to, uint64_t until_us)
{
	struct sim_broker *b = s->broker;
	struct list *at = &b->place[to];

	if (s->place != 0) {
		list_remove(&s->link);
		b->count[s->place]--;
	}
	s->place = to;
	s->until_us = until_us;
	b->count[to]++;
	/* A broker that keeps order: what comes back goes to its old place. */
	if (to == SIM_READY)
		while (at->prev != &b->place[to] && list_entry(at->prev,
		    struct sim_message, link)->seq > s->seq)
			at = at->prev;
	list_push_back(at, &s->link);
	if ((to == SIM_LEASED || to == SIM_DELAYED) &&
	    until_us != USEC_INFINITY && (!timer_armed(&b->timer) ||
	    until_us < timer_due_us(&b->timer)))
		timer_arm_at(b->loop, &b->timer, until_us);
	if (to == SIM_READY)
		sim_queue_wake(b->attached);
}

struct sim_delivery *
sim_delivery_of(const struct sim_message *s, uint64_t receipt)
{
	assert_true(receipt >= 1 && receipt <= s->receipt);
	return &s->deliveries[receipt - 1];
}

void
sim_lose(struct sim_message *s)
{
	assert_int_equal(s->place, SIM_LEASED);
	sim_delivery_of(s, s->receipt)->lost = true;
	sim_move(s, SIM_READY, 0);
}

static void
broker_timer_fired(struct timer *t)
{
	struct sim_broker *b = t->owner;
	static const enum sim_place timed[] = { SIM_LEASED, SIM_DELAYED };
	uint64_t now = clock_monotonic_us(), next = USEC_INFINITY;
	struct list *l, *tmp;

	for (size_t i = 0; i < ARRAY_SIZE(timed); i++) {
		list_foreach_safe(l, tmp, &b->place[timed[i]]) {
			struct sim_message *s = list_entry(l,
			    struct sim_message, link);

			if (s->until_us > now)
				next = MIN(next, s->until_us);
			else if (timed[i] == SIM_LEASED)
				sim_lose(s);
			else
				sim_move(s, SIM_READY, 0);
		}
	}
	if (next != USEC_INFINITY)
		timer_arm_at(b->loop, t, next);
}

void
sim_brokers_forget(void)
{
	list_init(&brokers);
}

static struct sim_message *
put(struct sim_broker *b, char *body, size_t n, const char *key)
{
	struct sim_message *s = new0(struct sim_message);

	s->broker = b;
	s->seq = b->nall;
	s->body = body;
	s->body_bytes = n;
	s->attempt = 1;
	snprintf(s->name, sizeof(s->name), "m%zu", b->nall);
	if (key != NULL)
		snprintf(s->key, sizeof(s->key), "%s", key);
	if ((b->nall & (b->nall - 1)) == 0)
		b->all = xreallocarray(b->all, MAX(b->nall * 2, (size_t)1),
		    sizeof(struct sim_message *));
	b->all[b->nall++] = s;
	list_init(&s->link);
	sim_move(s, SIM_READY, 0);
	return s;
}

struct sim_message *
sim_put(struct sim_broker *b, const char *body, const char *key)
{
	return put(b, xstrdup(body), strlen(body), key);
}

struct sim_message *
sim_put_bytes(struct sim_broker *b, size_t n)
{
	char *body = xmalloc(n + 1);

	memset(body, 'x', n);
	return put(b, body, n, NULL);
}

void
sim_put_many(struct sim_broker *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		(void)sim_put(b, "{}", NULL);
}

struct sim_message *
sim_message_of(const struct message *m)
{
	return m->receipt_data;
}

void
sim_steal(struct sim_message *s)
{
	assert_int_equal(s->place, SIM_LEASED);
	sim_delivery_of(s, s->receipt)->lost = true;
	/* The other one gets it done. */
	s->done_verdicts++;
	sim_move(s, SIM_ACKED, 0);
}

static void
check_message(const struct sim_message *s)
{
	for (uint64_t r = 1; r <= s->receipt; r++) {
		const struct sim_delivery *d = &s->deliveries[r - 1];

		if (d->settled > 1)
			fail_msg("%s: delivery %llu was settled %u times",
			    s->name, (unsigned long long)r, d->settled);
		/* One that never arrived comes back when its lease is over. */
		if (d->settled == 0 && !d->lost && (s->place != SIM_LEASED ||
		    (d->arrived && s->broker->attached == NULL)))
			fail_msg("%s: delivery %llu was neither settled nor "
			    "lost", s->name, (unsigned long long)r);
	}
	if (s->place == SIM_ACKED && s->done_verdicts == 0)
		fail_msg("%s is acknowledged and was never done", s->name);
	if (s->place == SIM_DEAD && s->error_type[0] == '\0')
		fail_msg("%s is dead for no reason", s->name);
}

void
sim_broker_check(const struct sim_broker *b)
{
	size_t listed = 0;

	for (int i = SIM_READY; i < SIM_NPLACES; i++) {
		size_t n = 0;
		struct list *l;

		list_foreach(l, &b->place[i]) {
			assert_int_equal(list_entry(l, struct sim_message,
			    link)->place, i);
			n++;
		}
		assert_int_equal(n, b->count[i]);
		listed += n;
	}
	assert_int_equal(listed, b->nall);
	for (size_t i = 0; i < b->nall; i++)
		check_message(b->all[i]);
}

void
sim_brokers_check(void)
{
	struct list *l;

	list_foreach(l, &brokers)
		sim_broker_check(list_entry(l, struct sim_broker, link));
}
