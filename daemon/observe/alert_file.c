/*
 * The state file: read once, written as a whole and renamed.  alert.h says why
 * it is not synced.  A file that makes no sense is put aside and said so; the
 * operator goes on without it.
 */
#include "observe/alert_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"

#define FILE_VERSION	1

/* ---- writing ---- */

/* NULL: it need not survive. */
static json_t *
saved_alert(struct alerts *a, const struct alert *x)
{
	enum alert_state state = x->state;
	bool waits, notified = x->notified;
	json_t *memos;

	if (state == ALERT_INACTIVE || (state == ALERT_RESOLVED && !notified))
		return NULL;
	memos = alert_memos(a, x, &waits);
	/* What is not delivered yet will be told again: that it fires, or,
	   when it is over, the end, which must be seen once more for that. */
	if (state == ALERT_FIRING)
		notified &= !waits;
	if (state == ALERT_RESOLVED && waits)
		state = ALERT_FIRING;
	if (state == ALERT_RESOLVED) {
		json_decref(memos);
		return NULL;
	}
	return json_pack("{s:o,s:o,s:o,s:s,s:o,s:o,s:o,s:o,s:b,s:o}",
	    "rule", json_text(x->rule->name),
	    "when", json_text(x->rule->when.text),
	    "subject", json_text(x->subject),
	    "state", alert_state_name(state),
	    "since_us", json_count(x->since_us),
	    "changed_us", json_count(x->changed_us),
	    "held_us", json_count(x->held_us),
	    "quiet_us", json_count(x->quiet_us),
	    "notified", (int)notified, "memos", memos);
}

static json_t *
saved_alerts(struct alerts *a)
{
	json_t *array = json_array();
	struct alert_rule *r;
	struct list *l, *k;

	alerts_foreach_rule(r, a, l)
		list_foreach(k, &r->alerts) {
			json_t *j = saved_alert(a,
			    list_entry(k, struct alert, link));

			if (j != NULL)
				json_array_append_new(array, j);
		}
	return array;
}

static json_t *
saved_silences(struct alerts *a)
{
	uint64_t now = clock_monotonic_us();
	json_t *array = json_array();
	struct list *l;

	list_foreach(l, &a->silences) {
		const struct silence *s = list_entry(l, struct silence, link);

		json_array_append_new(array, json_pack(
		    "{s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "id", json_count(s->id),
		    "pattern", json_text(s->pattern),
		    "reason", json_text(s->reason),
		    "by", json_text(s->by),
		    "from_us", json_count(s->from_us),
		    "span_us", json_count(s->span_us),
		    "left_us", json_count(s->until_us - MIN(now,
		    s->until_us))));
	}
	return array;
}

static int
add_bytes(const char *p, size_t n, void *buffer)
{
	buffer_add(buffer, p, n);
	return 0;
}

static int
write_all(int fd, struct slice s)
{
	while (s.n != 0) {
		ssize_t n = write(fd, s.p, s.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		s.p += n;
		s.n -= (size_t)n;
	}
	return 0;
}

/* The folder's last part only. What fails shows at open(). */
static void
make_folder(const char *path)
{
	_cleanup_free_ char *folder = xstrdup(path);
	char *slash = strrchr(folder, '/');

	if (slash == NULL || slash == folder)
		return;
	*slash = '\0';
	(void)mkdir(folder, 0750);
}

static int
replace(const char *path, struct slice content)
{
	_cleanup_free_ char *tmp = xasprintf("%s.tmp", path);
	int fd, r;

	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW |
	    O_NONBLOCK, 0640);
	if (fd < 0 && errno == ENOENT) {
		make_folder(path);
		fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC |
		    O_NOFOLLOW | O_NONBLOCK, 0640);
	}
	if (fd < 0)
		return -errno;
	r = write_all(fd, content);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0)
		(void)unlink(tmp);
	return r;
}

void
alert_file_save(struct alerts *a)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	uint64_t now = clock_monotonic_us();
	json_t *j;
	int r;

	if (a->path == NULL || (!a->on_disk && a->nalerts == 0 &&
	    a->nsilences == 0)) {
		a->dirty = false;
		return;
	}
	/* What failed is not tried again at each look. */
	if (a->save_error != 0 && now - a->saved_us < ALERT_SAVE_EVERY_US)
		return;
	j = json_pack("{s:i,s:o,s:o,s:o,s:o}", "version", FILE_VERSION,
	    "saved_us", json_count(clock_realtime_us()),
	    "next_silence", json_count(a->next_silence),
	    "alerts", saved_alerts(a), "silences", saved_silences(a));
	if (json_dump_callback(j, add_bytes, &b, JSON_COMPACT) < 0)
		BUG("the alert states cannot be printed");
	json_decref(j);
	buffer_add_char(&b, '\n');
	r = replace(a->path, buffer_slice(&b));
	a->saved_us = now;
	if (r == 0 && a->save_error != 0)
		log_notice(LOG_EVENT(EVENT_ALERT_STATES),
		    "alert states are saved at %s again",
		    a->path);
	if (r < 0 && r != a->save_error)
		log_warning(LOG_EVENT(EVENT_ALERT_STATES),
		    "alert states cannot be saved at %s: %s; a "
		    "restart would forget running durations and silences; "
		    "trying again (State= names the folder)", a->path,
		    strerror(-r));
	a->save_error = r;
	if (r == 0) {
		a->dirty = false;
		a->on_disk = true;
	}
}

/* ---- reading ---- */

/* What one entry of the file says; strings live as long as its JSON. */
struct saved {
	const char *rule, *when, *subject, *state;
	json_int_t since, changed, held, quiet;
	int notified;
	json_t *memos;			/* NULL */
};

struct saved_silence {
	const char *pattern, *reason, *by;
	json_int_t id, from, span, left;
};

static int
unpack_alert(json_t *j, struct saved *s)
{
	s->memos = NULL;
	if (json_unpack(j, "{s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:b,s?o}",
	    "rule", &s->rule, "when", &s->when, "subject", &s->subject,
	    "state", &s->state, "since_us", &s->since,
	    "changed_us", &s->changed, "held_us", &s->held,
	    "quiet_us", &s->quiet, "notified", &s->notified,
	    "memos", &s->memos) < 0 ||
	    (s->memos != NULL && !json_is_object(s->memos)) ||
	    (strcmp(s->state, "pending") != 0 &&
	    strcmp(s->state, "firing") != 0) ||
	    s->since < 0 || s->changed < 0 || s->held < 0 || s->quiet < 0)
		return -EINVAL;
	return 0;
}

static int
unpack_silence(json_t *j, struct saved_silence *s)
{
	if (json_unpack(j, "{s:s,s:s,s:s,s:I,s:I,s:I,s:I}",
	    "pattern", &s->pattern, "reason", &s->reason, "by", &s->by,
	    "id", &s->id, "from_us", &s->from, "span_us", &s->span,
	    "left_us", &s->left) < 0 || s->id <= 0 || s->from < 0 ||
	    s->span <= 0 || (uint64_t)s->span > SILENCE_MAX_US ||
	    s->left < 0 || s->left > s->span)
		return -EINVAL;
	return 0;
}

/* How long we were away, by the wall clock; a clock that was set back says
   nothing. */
static uint64_t
away_us(json_int_t saved)
{
	uint64_t now = clock_realtime_us();

	return now - MIN(now, (uint64_t)saved);
}

static void
take_alert(struct alerts *a, const struct saved *s, json_int_t saved_us)
{
	struct alert_rule *r = alert_rule_find(a, s->rule);
	uint64_t gap = MIN(away_us(saved_us), ALERT_GAP_US);
	struct alert *x;

	if (r == NULL || strcmp(r->when.text, s->when) != 0) {
		log_notice(LOG_EVENT(EVENT_ALERT_STATES),
		    "alert %s of %s was %s before the restart; "
		    "the rule is %s now, so that is forgotten", s->rule,
		    *s->subject != '\0' ? s->subject : "the operator",
		    s->state, r == NULL ? "gone" : "another");
		return;
	}
	if (alert_find(r, s->subject) != NULL ||
	    (x = alert_add(a, r, s->subject)) == NULL)
		return;
	x->state = strcmp(s->state, "firing") == 0 ? ALERT_FIRING :
	    ALERT_PENDING;
	x->since_us = MIN((uint64_t)s->since, clock_realtime_us());
	x->changed_us = MIN((uint64_t)s->changed, clock_realtime_us());
	x->held_us = (uint64_t)s->held;
	x->quiet_us = (uint64_t)s->quiet + gap;
	x->notified = s->notified != 0 && x->state == ALERT_FIRING;
	x->gap_us = gap;
	if (s->memos != NULL && json_object_size(s->memos) != 0)
		x->memos = json_incref(s->memos);
}

static void
take_silence(struct alerts *a, const struct saved_silence *s,
    json_int_t saved_us)
{
	uint64_t away = away_us(saved_us);
	uint64_t next = a->next_silence;
	struct silence *n;

	if (away >= (uint64_t)s->left ||
	    (n = silence_add(a, s->pattern, s->reason, s->by)) == NULL)
		return;
	n->id = (uint64_t)s->id;
	a->next_silence = next;
	n->from_us = (uint64_t)s->from;
	n->span_us = (uint64_t)s->span;
	n->until_us = clock_monotonic_us() + (uint64_t)s->left - away;
}

static int
check_all(json_t *alerts, json_t *silences, struct buffer *why)
{
	struct saved_silence quiet;
	struct saved s;
	size_t i;
	json_t *j;

	if (json_array_size(alerts) > ALERTS_MAX ||
	    json_array_size(silences) > SILENCES_MAX) {
		buffer_add_str(why, "it holds more than there can be");
		return -EINVAL;
	}
	json_array_foreach(alerts, i, j) {
		if (unpack_alert(j, &s) < 0) {
			buffer_printf(why, "alert %zu in it makes no sense",
			    i + 1);
			return -EINVAL;
		}
	}
	json_array_foreach(silences, i, j) {
		if (unpack_silence(j, &quiet) < 0) {
			buffer_printf(why, "silence %zu in it makes no sense",
			    i + 1);
			return -EINVAL;
		}
	}
	return 0;
}

static int
take_all(struct alerts *a, json_t *root, struct buffer *why)
{
	json_t *alerts, *silences, *j;
	json_int_t saved, next;
	struct saved_silence quiet;
	struct saved s;
	int version;
	size_t i;

	if (json_unpack(root, "{s:i}", "version", &version) < 0) {
		buffer_add_str(why, "it is no file of alert states");
		return -EINVAL;
	}
	if (version != FILE_VERSION) {
		buffer_printf(why, "it is of version %d, not %d", version,
		    FILE_VERSION);
		return -EINVAL;
	}
	if (json_unpack(root, "{s:I,s:I,s:o,s:o}", "saved_us", &saved,
	    "next_silence", &next, "alerts", &alerts, "silences",
	    &silences) < 0 || saved < 0 || next <= 0 ||
	    !json_is_array(alerts) || !json_is_array(silences)) {
		buffer_add_str(why, "something is missing in it");
		return -EINVAL;
	}
	if (check_all(alerts, silences, why) < 0)
		return -EINVAL;
	a->next_silence = MAX(a->next_silence, (uint64_t)next);
	json_array_foreach(alerts, i, j)
		if (unpack_alert(j, &s) == 0)
			take_alert(a, &s, saved);
	json_array_foreach(silences, i, j)
		if (unpack_silence(j, &quiet) == 0)
			take_silence(a, &quiet, saved);
	return 0;
}

int
alert_file_parse(struct alerts *a, struct slice text, struct buffer *why)
{
	json_error_t e;
	json_t *root = json_loadb(text.p != NULL ? text.p : "", text.n, 0, &e);
	int r;

	if (root == NULL) {
		buffer_printf(why, "it is broken in line %d: %s", e.line,
		    e.text);
		return -EINVAL;
	}
	r = take_all(a, root, why);
	json_decref(root);
	return r;
}

/* 0 or -errno. */
static int
read_file(const char *path, struct buffer *b)
{
	_cleanup_close_ int fd = open(path,
	    O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	while (buffer_len(b) <= ALERT_FILE_MAX) {
		ssize_t n = read(fd, buffer_reserve(b, 64 * KIB), 64 * KIB);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		buffer_commit(b, (size_t)n);
	}
	return -EFBIG;
}

void
alert_file_load(struct alerts *a)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT, why = BUFFER_INIT;
	_cleanup_free_ char *aside = NULL;
	int r;

	if (a->path == NULL)
		return;
	r = read_file(a->path, &b);
	if (r == -ENOENT)
		return;
	a->on_disk = true;
	if (r < 0) {
		log_warning(LOG_EVENT(EVENT_ALERT_STATES),
		    "alert states cannot be read from %s: %s; "
		    "durations and silences begin anew", a->path,
		    strerror(-r));
		return;
	}
	if (alert_file_parse(a, buffer_slice(&b), &why) == 0)
		return;
	aside = xasprintf("%s.broken", a->path);
	r = rename(a->path, aside) < 0 ? -errno : 0;
	log_warning(LOG_EVENT(EVENT_ALERT_STATES), "alert states at %s are not "
	    "usable: %s; durations and silences begin anew%s%s", a->path,
	    buffer_cstr(&why), r == 0 ? "; it is kept as " : "", r == 0 ? aside : "");
}
