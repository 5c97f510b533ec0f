/*
 * Security events become alerts: not one for each, but one as soon as there are
 * so many of a kind about the same address or sender within a window, and one
 * at the window's end if there were as many more.
 *
 * Bounded: TALLIES_MAX windows at a time; past that the oldest is forgotten,
 * which is that of a stranger who was never heard again or of one who has been
 * told about.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "sink/crowdsec_impl.h"

#define TALLIES_MAX	1000u

struct tally {
	struct hash_node node;
	struct list link;
	uint64_t since_us;		/* monotonic: when its window began */
	bool told;			/* of it, in this window */
	char key[CROWDSEC_VALUE_MAX + 4];
	/* Since its last alert. */
	struct crowdsec_alert sum;
};

void
crowdsec_tallies_init(struct crowdsec_tallies *all)
{
	hash_init(&all->hash);
	list_init(&all->all);
}

static void
tally_free(struct crowdsec_tallies *all, struct tally *t)
{
	hash_remove(&all->hash, &t->node);
	list_remove(&t->link);
	free(t);
}

static struct tally *
oldest(const struct crowdsec_tallies *all)
{
	return list_entry(all->all.next, struct tally, link);
}

void
crowdsec_tallies_done(struct crowdsec_tallies *all)
{
	while (!list_empty(&all->all))
		tally_free(all, oldest(all));
	hash_done(&all->hash);
}

static void
copy(char *to, size_t size, struct slice s)
{
	snprintf(to, size, "%.*s", (int)MIN(s.n, size - 1),
	    s.n != 0 ? s.p : "");
}

static struct tally *
tally_of(struct crowdsec_tallies *all, const struct security_event *e,
    bool sender, struct slice value)
{
	char key[CROWDSEC_VALUE_MAX + 4];
	struct hash_node *node;
	struct tally *t;

	snprintf(key, sizeof(key), "%c%c%.*s", sender ? 's' : 'a',
	    'a' + (int)e->kind, (int)MIN(value.n, (size_t)CROWDSEC_VALUE_MAX),
	    value.p);
	node = hash_find(&all->hash, slice_of(key));
	if (node != NULL)
		return container_of(node, struct tally, node);
	if (all->hash.count >= TALLIES_MAX)
		tally_free(all, oldest(all));
	t = new0(struct tally);
	memcpy(t->key, key, sizeof(key));
	t->since_us = clock_monotonic_us();
	t->sum.kind = e->kind;
	t->sum.sender = sender;
	copy(t->sum.value, sizeof(t->sum.value), value);
	hash_insert(&all->hash, &t->node, slice_of(t->key));
	list_push_back(&all->all, &t->link);
	return t;
}

/* This host, and networks that are nobody else's: CrowdSec's own whitelist has
   them, which does not apply to what it is told by others. */
static bool
is_private(const char *ip)
{
	struct in6_addr v6;
	struct in_addr v4;
	uint32_t a;

	if (inet_pton(AF_INET6, ip, &v6) == 1) {
		if (!IN6_IS_ADDR_V4MAPPED(&v6))
			return IN6_IS_ADDR_LOOPBACK(&v6) ||
			    IN6_IS_ADDR_LINKLOCAL(&v6) ||
			    (v6.s6_addr[0] & 0xfe) == 0xfc;
		memcpy(&v4, v6.s6_addr + 12, sizeof(v4));
	} else if (inet_pton(AF_INET, ip, &v4) != 1) {
		return true;		/* no address at all */
	}
	a = ntohl(v4.s_addr);
	return a >> 24 == 127 || a >> 24 == 10 || a >> 20 == 0xac1 ||
	    a >> 16 == 0xc0a8 || a >> 16 == 0xa9fe;
}

/* What was counted since the last alert, which begins anew. */
static struct crowdsec_alert *
take_alert(struct tally *t)
{
	struct crowdsec_alert *a = new0(struct crowdsec_alert);

	*a = t->sum;
	list_init(&a->link);
	t->sum.events = 0;
	return a;
}

struct crowdsec_alert *
crowdsec_tally_over(struct crowdsec_tallies *all, unsigned after,
    uint64_t window_us)
{
	uint64_t now = clock_monotonic_us();
	struct crowdsec_alert *a;
	struct tally *t;

	while (!list_empty(&all->all)) {
		t = oldest(all);
		if (now - t->since_us < window_us)
			break;
		a = t->sum.events >= after ? take_alert(t) : NULL;
		tally_free(all, t);
		if (a != NULL)
			return a;
	}
	return NULL;
}

struct crowdsec_alert *
crowdsec_tally(struct crowdsec_tallies *all, const struct security_event *e,
    unsigned after)
{
	bool sender = e->src_ip == NULL;
	struct slice value = sender ? e->sender : slice_of(e->src_ip);
	struct tally *t;

	if (value.n == 0 || (!sender && is_private(e->src_ip)))
		return NULL;	/* nobody who could be banned */
	t = tally_of(all, e, sender, value);
	t->sum.to_us = clock_realtime_us();
	if (t->sum.events++ == 0)
		t->sum.from_us = t->sum.to_us;
	copy(t->sum.user, sizeof(t->sum.user), e->user);
	copy(t->sum.queue, sizeof(t->sum.queue), e->queue);
	copy(t->sum.reason, sizeof(t->sum.reason), e->reason);
	if (t->told || t->sum.events < after)
		return NULL;
	t->told = true;
	return take_alert(t);
}
