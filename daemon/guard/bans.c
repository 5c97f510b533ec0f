#include "guard/bans.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/heap.h"
#include "base/list.h"
#include "guard/security.h"

/* An address with a prefix; without holes, since its bytes are the key. */
struct prefix {
	uint8_t v6;			/* bool */
	uint8_t length;			/* bits */
	uint8_t bytes[16];
};

#define V4_BITS	32u
#define V6_BITS	128u

/* What is banned, by one decision or several. */
struct target {
	struct hash_node node;
	struct list bans;
	bool sender;
	struct prefix prefix;		/* of an address; else name[] */
	char name[];
};

struct ban {
	struct hash_node node;		/* by its number */
	struct heap_node end;		/* key: monotonic us */
	struct list link;		/* of the target */
	struct list all;		/* of the bans, older wholes first */
	struct target *target;		/* until it is put in: its own */
	uint64_t id;
	uint64_t whole;
	enum ban_scope scope;
};

struct bans {
	struct hash ids, addresses, senders;
	struct heap ends;
	struct list all;
	size_t max, total, count[BAN_NSCOPES];
	size_t used4[V4_BITS + 1], used6[V6_BITS + 1];	/* targets by length */
	uint64_t whole, left_out;
	uint64_t messages[BAN_NEFFECTS];
	enum ban_effect effect;
	uint64_t delay_us;
};

/* ---- addresses ---- */

static void
mask(struct prefix *p)
{
	for (unsigned i = 0; i < sizeof(p->bytes); i++) {
		unsigned keep = p->length > 8 * i ? p->length - 8 * i : 0;

		if (keep < 8)
			p->bytes[i] &= (uint8_t)(0xff00u >> keep);
	}
}

static void
prefix_of_v6(struct prefix *p, const struct in6_addr *a)
{
	*p = (struct prefix){ .v6 = 1, .length = V6_BITS };
	memcpy(p->bytes, a, 16);
	if (!IN6_IS_ADDR_V4MAPPED(a))
		return;
	*p = (struct prefix){ .length = V4_BITS };
	memcpy(p->bytes, (const char *)a + 12, 4);
}

/* "ADDRESS" or "ADDRESS/BITS". */
static bool
parse_prefix(struct prefix *p, struct slice text)
{
	char copy[INET6_ADDRSTRLEN + sizeof("/128")], *slash;
	struct in6_addr v6;
	unsigned bits, most;

	if (text.n == 0 || text.n >= sizeof(copy) ||
	    memchr(text.p, '\0', text.n) != NULL)
		return false;
	memcpy(copy, text.p, text.n);
	copy[text.n] = '\0';
	slash = strchr(copy, '/');
	if (slash != NULL)
		*slash++ = '\0';
	*p = (struct prefix){ .length = V4_BITS };
	most = V4_BITS;
	if (inet_pton(AF_INET, copy, p->bytes) != 1) {
		if (inet_pton(AF_INET6, copy, &v6) != 1)
			return false;
		prefix_of_v6(p, &v6);
		most = V6_BITS;
	}
	if (slash == NULL)
		return true;
	bits = 0;
	for (const char *c = slash; *c != '\0'; c++) {
		if (*c < '0' || *c > '9' || c - slash >= 3)
			return false;
		bits = bits * 10 + (unsigned)(*c - '0');
	}
	if (*slash == '\0' || bits > most)
		return false;
	if (most == V6_BITS && p->v6 == 0) {
		/* Of an IPv4 address in IPv6's clothes. */
		if (bits < V6_BITS - V4_BITS)
			return false;
		bits -= V6_BITS - V4_BITS;
	}
	p->length = (uint8_t)bits;
	mask(p);
	return true;
}

static struct slice
key_of(const struct target *t)
{
	if (t->sender)
		return slice_of(t->name);
	return (struct slice){ (const char *)&t->prefix, sizeof(t->prefix) };
}

/* ---- one decision ---- */

static struct target *
target_new(enum ban_scope scope, struct slice value, struct error *err)
{
	char name[SECURITY_NAME_MAX + 1];
	struct prefix p = { 0 };
	struct target *t;
	size_t n = 0;

	if (scope == BAN_SENDER)
		n = security_clean(value, name);
	if (scope == BAN_SENDER ? n == 0 : !parse_prefix(&p, value)) {
		char quoted[81];

		error_quote(value, quoted, sizeof(quoted));
		error_set(err, ERROR_REJECTED, "bad_value", scope ==
		    BAN_SENDER ? "a sender without a name%s" :
		    "\"%s\" is no address", scope == BAN_SENDER ? "" : quoted);
		return NULL;
	}
	t = xcalloc(1, sizeof(*t) + n + 1);
	list_init(&t->bans);
	t->sender = scope == BAN_SENDER;
	t->prefix = p;
	memcpy(t->name, name, n);
	return t;
}

struct ban *
ban_new(uint64_t id, enum ban_scope scope, struct slice value,
    uint64_t duration_us, struct error *err)
{
	struct target *t = target_new(scope, value, err);
	struct ban *b;

	if (t == NULL)
		return NULL;
	b = new0(struct ban);
	list_init(&b->link);
	list_init(&b->all);
	b->target = t;
	b->id = id;
	b->scope = scope;
	b->end.key = sat_add(clock_monotonic_us(), duration_us);
	return b;
}

void
ban_free(struct ban *b)
{
	free(b->target);
	free(b);
}

/* ---- all of them ---- */

struct bans *
bans_new(size_t max)
{
	struct bans *all = new0(struct bans);

	hash_init(&all->ids);
	hash_init(&all->addresses);
	hash_init(&all->senders);
	heap_init(&all->ends);
	list_init(&all->all);
	all->max = max;
	all->effect = BAN_BURY;
	return all;
}

void
bans_set_max(struct bans *all, size_t max)
{
	all->max = max;
}

void
bans_set_effect(struct bans *all, enum ban_effect effect, uint64_t delay_us)
{
	all->effect = effect;
	all->delay_us = delay_us;
}

enum ban_effect
bans_effect(const struct bans *all, uint64_t *ret_delay_us)
{
	*ret_delay_us = all->delay_us;
	return all->effect;
}

static struct hash *
targets_of(struct bans *all, const struct target *t)
{
	return t->sender ? &all->senders : &all->addresses;
}

static void
count_length(struct bans *all, const struct target *t, size_t by)
{
	if (t->sender)
		return;
	if (t->prefix.v6 != 0)
		all->used6[t->prefix.length] += by;
	else
		all->used4[t->prefix.length] += by;
}

/* The one target of that key: the ban's own, or the one that was there. */
static void
join_target(struct bans *all, struct ban *b)
{
	struct hash *h = targets_of(all, b->target);
	struct hash_node *node = hash_find(h, key_of(b->target));

	if (node == NULL) {
		hash_insert(h, &b->target->node, key_of(b->target));
		count_length(all, b->target, 1);
	} else {
		free(b->target);
		b->target = container_of(node, struct target, node);
	}
	list_push_back(&b->target->bans, &b->link);
}

static void
leave_target(struct bans *all, struct ban *b)
{
	struct target *t = b->target;

	list_remove(&b->link);
	if (!list_empty(&t->bans))
		return;
	hash_remove(targets_of(all, t), &t->node);
	count_length(all, t, (size_t)-1);
	free(t);
}

static void
drop(struct bans *all, struct ban *b)
{
	leave_target(all, b);
	heap_remove(&all->ends, &b->end);
	hash_remove(&all->ids, &b->node);
	list_remove(&b->all);
	all->count[b->scope]--;
	all->total--;
	free(b);
}

static struct ban *
find(const struct bans *all, const uint64_t *id)
{
	struct hash_node *node = hash_find(&all->ids,
	    (struct slice){ (const char *)id, sizeof(*id) });

	return node != NULL ? container_of(node, struct ban, node) : NULL;
}

void
bans_remove(struct bans *all, uint64_t id)
{
	struct ban *b = find(all, &id);

	if (b != NULL)
		drop(all, b);
}

static struct ban *
oldest(const struct bans *all)
{
	return list_entry(all->all.next, struct ban, all);
}

bool
bans_put(struct bans *all, struct ban *b)
{
	bans_remove(all, b->id);
	/* What the new whole may not have any more makes room first. */
	if (all->total >= all->max && all->total != 0 &&
	    oldest(all)->whole != all->whole)
		drop(all, oldest(all));
	if (all->total >= all->max) {
		all->left_out++;
		ban_free(b);
		return false;
	}
	b->whole = all->whole;
	join_target(all, b);
	heap_insert(&all->ends, &b->end, b->end.key);
	hash_insert(&all->ids, &b->node, (struct slice){ (const char *)&b->id,
	    sizeof(b->id) });
	list_push_back(&all->all, &b->all);
	all->count[b->scope]++;
	all->total++;
	return true;
}

bool
bans_expire(struct bans *all, size_t most)
{
	uint64_t now = clock_monotonic_us();
	struct heap_node *first;

	while ((first = heap_first(&all->ends)) != NULL && first->key <= now) {
		if (most-- == 0)
			return true;
		drop(all, container_of(first, struct ban, end));
	}
	return false;
}

void
bans_renew(struct bans *all)
{
	all->whole++;
}

bool
bans_sweep(struct bans *all, size_t most)
{
	while (all->total != 0 && oldest(all)->whole != all->whole) {
		if (most-- == 0)
			return true;
		drop(all, oldest(all));
	}
	return false;
}

void
bans_clear(struct bans *all)
{
	while (all->total != 0)
		drop(all, oldest(all));
}

void
bans_free(struct bans *all)
{
	if (all == NULL)
		return;
	bans_clear(all);
	hash_done(&all->ids);
	hash_done(&all->addresses);
	hash_done(&all->senders);
	heap_done(&all->ends);
	free(all);
}

/* ---- look-ups ---- */

static bool
in_force(const struct hash *h, struct slice key, uint64_t now)
{
	struct hash_node *node = hash_find(h, key);
	struct target *t;
	struct list *l;

	if (node == NULL)
		return false;
	t = container_of(node, struct target, node);
	list_foreach(l, &t->bans)
		if (list_entry(l, struct ban, link)->end.key > now)
			return true;
	return false;
}

static bool
prefix_of_sockaddr(struct prefix *p, const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		*p = (struct prefix){ .length = V4_BITS };
		memcpy(p->bytes, &in.sin_addr, 4);
		return true;
	}
	if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof(in6));
		prefix_of_v6(p, &in6.sin6_addr);
		return true;
	}
	return false;
}

static bool
is_loopback(const struct prefix *p)
{
	return p->v6 != 0 ? memcmp(p->bytes, &in6addr_loopback, 16) == 0 :
	    p->bytes[0] == 127;
}

bool
bans_address(const struct bans *all, const struct sockaddr *sa)
{
	uint64_t now = clock_monotonic_us();
	const size_t *used;
	struct prefix p;

	if (all->addresses.count == 0 || sa == NULL ||
	    !prefix_of_sockaddr(&p, sa) || is_loopback(&p))
		return false;
	used = p.v6 != 0 ? all->used6 : all->used4;
	/* Shorter and shorter: each mask leaves what the next one needs. */
	for (unsigned bits = p.length + 1; bits-- > 0;) {
		if (used[bits] == 0)
			continue;
		p.length = (uint8_t)bits;
		mask(&p);
		if (in_force(&all->addresses, (struct slice){
		    (const char *)&p, sizeof(p) }, now))
			return true;
	}
	return false;
}

bool
bans_sender(const struct bans *all, struct slice name)
{
	char clean[SECURITY_NAME_MAX + 1];
	size_t n;

	if (all->senders.count == 0 || name.n == 0)
		return false;
	n = security_clean(name, clean);
	return in_force(&all->senders, (struct slice){ clean, n },
	    clock_monotonic_us());
}

void
bans_count_message(struct bans *all, enum ban_effect effect)
{
	all->messages[effect]++;
}

uint64_t
bans_messages(const struct bans *all, enum ban_effect effect)
{
	return all->messages[effect];
}

const char *
ban_effect_name(enum ban_effect effect)
{
	static const char *const names[BAN_NEFFECTS] = {
		[BAN_BURY] = "dead-letter", [BAN_DELAY] = "delay",
		[BAN_DROP] = "drop",
	};

	return effect < BAN_NEFFECTS ? names[effect] : NULL;
}

size_t
bans_count(const struct bans *all, enum ban_scope scope)
{
	return all->count[scope];
}

size_t
bans_total(const struct bans *all)
{
	return all->total;
}

uint64_t
bans_left_out(const struct bans *all)
{
	return all->left_out;
}
