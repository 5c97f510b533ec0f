#include "guard/security.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/loop.h"

#define SECONDS	60

struct kind {
	const char *name;
	const char *id;			/* of base/log_event.h */
	uint64_t count;
	uint64_t by_second[SECONDS];	/* a ring */
	uint64_t second;		/* the newest in it */
	uint64_t second_us;		/* when the present one began */
	uint64_t left_out;
	unsigned lines;
};

static struct kind kinds[SECURITY_NKINDS] = {
	[SECURITY_AUTH_FAILED] = { "auth_failed", EVENT_AUTH_FAILED },
	[SECURITY_MESSAGE_AUTH_FAILED] = { "message_auth_failed",
	    EVENT_MESSAGE_AUTH_FAILED },
	[SECURITY_MESSAGE_SUSPICIOUS] = { "message_suspicious",
	    EVENT_MESSAGE_SUSPICIOUS },
	[SECURITY_MESSAGE_FLOOD] = { "message_flood", EVENT_MESSAGE_FLOOD },
};

static struct {
	struct loop *loop;		/* NULL: none */
	struct timer timer;
	security_fn *listener;
	void *owner;
} security;

const char *
security_kind_name(enum security_kind k)
{
	return k < SECURITY_NKINDS ? kinds[k].name : NULL;
}

uint64_t
security_count(enum security_kind k)
{
	return k < SECURITY_NKINDS ? kinds[k].count : 0;
}

/* Makes the present second the newest. */
static void
move_on(struct kind *k)
{
	uint64_t now = clock_monotonic_us() / USEC_PER_SEC;

	/* A clock that goes back is a test's. */
	if (now < k->second || now - k->second >= SECONDS)
		memset(k->by_second, 0, sizeof(k->by_second));
	else
		for (uint64_t s = k->second + 1; s <= now; s++)
			k->by_second[s % SECONDS] = 0;
	k->second = now;
}

static void
count(struct kind *k)
{
	move_on(k);
	k->by_second[k->second % SECONDS]++;
	k->count++;
}

uint64_t
security_per_minute(enum security_kind k)
{
	uint64_t sum = 0;

	if (k >= SECURITY_NKINDS)
		return 0;
	move_on(&kinds[k]);
	for (size_t i = 0; i < SECONDS; i++)
		sum += kinds[k].by_second[i];
	return sum;
}

/* ---- names of strangers ---- */

/* No more than out has room for, and its end. */
static struct slice
clean(struct slice s, bool spaces, char *out, size_t max)
{
	size_t n = MIN(s.n, max);

	for (size_t i = 0; i < n; i++) {
		char c = s.p[i];

		out[i] = (c > ' ' || (c == ' ' && spaces)) && c < 0x7f &&
		    c != '"' && c != '\\' ? c : '?';
	}
	out[n] = '\0';
	return (struct slice){ out, n };
}

size_t
security_clean(struct slice name, char out[SECURITY_NAME_MAX + 1])
{
	return clean(name, false, out, SECURITY_NAME_MAX).n;
}

/* ---- lines ---- */

static void
say_left_out(struct kind *k)
{
	if (k->left_out != 0)
		log_warning(LOG_EVENT(k->id), "%llu more events %s were not "
		    "logged one by one", (unsigned long long)k->left_out,
		    k->name);
	k->left_out = 0;
	k->lines = 0;
}

static bool
is_over(const struct kind *k, uint64_t now)
{
	return now - k->second_us >= USEC_PER_SEC;
}

static void
timer_fired(struct timer *t)
{
	uint64_t now = clock_monotonic_us(), next = USEC_INFINITY;

	for (size_t i = 1; i < SECURITY_NKINDS; i++) {
		struct kind *k = &kinds[i];

		if (k->left_out == 0)
			continue;
		if (is_over(k, now))
			say_left_out(k);
		else
			next = MIN(next, k->second_us + USEC_PER_SEC);
	}
	if (next != USEC_INFINITY)
		timer_arm_at(security.loop, t, next);
}

/* Whether one more line may be written now. */
static bool
may_log(struct kind *k)
{
	uint64_t now = clock_monotonic_us();

	if (is_over(k, now)) {
		say_left_out(k);
		k->second_us = now;
	}
	if (k->lines < SECURITY_LINES) {
		k->lines++;
		return true;
	}
	if (k->left_out++ == 0 && security.loop != NULL)
		timer_arm_sooner(security.loop, &security.timer,
		    k->second_us + USEC_PER_SEC - now);
	return false;
}

void
security_tell(const struct security_event *given)
{
	char user[SECURITY_NAME_MAX + 1], sender[SECURITY_NAME_MAX + 1],
	    queue[SECURITY_NAME_MAX + 1], reason[SECURITY_REASON_MAX + 1];
	struct security_event e = *given;
	struct kind *k = &kinds[e.kind];

	BUG_ON(e.kind == 0 || e.kind >= SECURITY_NKINDS);
	count(k);
	e.user = clean(e.user, false, user, SECURITY_NAME_MAX);
	e.sender = clean(e.sender, false, sender, SECURITY_NAME_MAX);
	e.queue = clean(e.queue, false, queue, SECURITY_NAME_MAX);
	e.reason = clean(e.reason, true, reason, SECURITY_REASON_MAX);
	if (security.listener != NULL)
		security.listener(security.owner, &e);
	if (!may_log(k))
		return;
	log_warning(&((struct log_fields){ .event = k->id,
	    .queue = queue[0] != '\0' ? queue : NULL,
	    .message = e.message, .error_type = e.error_type, .bare = true }),
	    "event=%s src_ip=%s user=\"%s\" sender=\"%s\" queue=\"%s\" "
	    "reason=\"%s\"", k->name, e.src_ip != NULL ? e.src_ip : "-", user,
	    sender, queue, reason);
}

/* ---- whom it concerns ---- */

void
security_listen(security_fn *fn, void *owner)
{
	security.listener = fn;
	security.owner = owner;
}

void
security_unlisten(void *owner)
{
	if (security.owner == owner)
		security_listen(NULL, NULL);
}

void
security_open(struct loop *loop)
{
	security.loop = loop;
	timer_init(&security.timer, "security.lines", timer_fired, NULL);
}

void
security_close(void)
{
	if (security.loop == NULL)
		return;
	timer_cancel(security.loop, &security.timer);
	security.loop = NULL;
	for (size_t i = 1; i < SECURITY_NKINDS; i++)
		say_left_out(&kinds[i]);
}
