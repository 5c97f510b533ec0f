#include "sink/slack_text.h"

#include <ctype.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/json.h"

#define CUT	"..."

/* ---- escapes ---- */

static struct slice
escaped(char c)
{
	switch (c) {
	case '&':
		return SLICE("&amp;");
	case '<':
		return SLICE("&lt;");
	case '>':
		return SLICE("&gt;");
	default:
		return (struct slice){ NULL, 0 };
	}
}

/* The next character, or one byte that belongs to none. */
static size_t
character_len(struct slice s, size_t at)
{
	size_t n = json_utf8_len((const unsigned char *)s.p + at, s.n - at);

	return n != 0 ? n : 1;
}

static size_t
escaped_len(struct slice s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += MAX(escaped(s.p[i]).n, (size_t)1);
	return n;
}

size_t
slack_escape(struct buffer *b, struct slice s, size_t max)
{
	bool fits = escaped_len(s) <= max;
	size_t room = fits ? max : max - MIN(max, sizeof(CUT) - 1), i = 0;

	while (i < s.n) {
		struct slice e = escaped(s.p[i]);
		size_t n = character_len(s, i);

		if ((e.p != NULL ? e.n : n) > room)
			break;
		if (e.p == NULL)
			e = (struct slice){ s.p + i, n };
		buffer_add_slice(b, e);
		room -= e.n;
		i += n;
	}
	if (!fits)
		buffer_add_str(b, CUT);
	return i;
}

/* Inside of `code` a backtick would end it. */
static void
add_code(struct buffer *b, const char *text, size_t max)
{
	size_t start = buffer_len(b);

	(void)slack_escape(b, slice_of(text), max);
	for (char *p = buffer_head(b) + start; start < buffer_len(b);
	    p++, start++)
		if (*p == '`')
			*p = '\'';
}

/* As a shell takes it for one word. */
static void
add_word(struct buffer *b, const char *text)
{
	bool plain = *text != '\0';

	for (const char *p = text; *p != '\0'; p++)
		plain &= isalnum((unsigned char)*p) ||
		    strchr("_.:/@-", *p) != NULL;
	buffer_add_str(b, plain ? "" : "'");
	for (const char *p = text; *p != '\0'; p++)
		if (*p == '\'')
			buffer_add_str(b, "'\\''");
		else
			buffer_add_char(b, *p);
	buffer_add_str(b, plain ? "" : "'");
}

/* ---- words ---- */

static const char *
sign(const struct alert_event *e)
{
	if (e->kind == ALERT_EVENT_RESOLVED)
		return ":white_check_mark:";
	if (e->kind == ALERT_EVENT_TEST)
		return ":test_tube:";
	return e->severity == ALERT_CRITICAL ? ":rotating_light:" :
	    e->severity == ALERT_WARNING ? ":warning:" :
	    ":information_source:";
}

static const char *
heading(const struct alert_event *e)
{
	switch (e->kind) {
	case ALERT_EVENT_RESOLVED:
		return "RESOLVED";
	case ALERT_EVENT_TEST:
		return "TEST";
	default:
		return e->severity == ALERT_CRITICAL ? "CRITICAL" :
		    e->severity == ALERT_WARNING ? "WARNING" : "INFO";
	}
}

static void
add_times(struct buffer *b, const struct alert_event *e, unsigned times)
{
	if (e->kind == ALERT_EVENT_REPEAT)
		buffer_add_str(b, " (still)");
	if (times > 1)
		buffer_printf(b, " (%u times)", times);
}

static const char *
scope_name(enum figure_scope scope)
{
	static const char *const names[FIGURE_NSCOPES] = {
		[FIGURE_QUEUE] = "Queue", [FIGURE_POOL] = "Pool",
		[FIGURE_CHECK] = "Check", [FIGURE_SINK] = "Sink",
	};

	return names[scope] != NULL ? names[scope] : "Subject";
}

/* ---- blocks ---- */

static void
add_mrkdwn(struct buffer *out, struct buffer *text)
{
	buffer_add_str(out, "{\"type\":\"mrkdwn\",\"text\":");
	json_add_string(out, buffer_slice(text));
	buffer_add_char(out, '}');
	buffer_clear(text);
}

/* Takes the text's content. */
static void
add_section(struct buffer *out, struct buffer *text)
{
	buffer_add_str(out, ",{\"type\":\"section\",\"text\":");
	add_mrkdwn(out, text);
	buffer_add_char(out, '}');
}

static void
add_field(struct buffer *out, const char *name, const char *value)
{
	struct buffer b = BUFFER_INIT;

	if (buffer_head(out)[buffer_len(out) - 1] != '[')
		buffer_add_char(out, ',');
	buffer_printf(&b, "*%s*\n", name);
	(void)slack_escape(&b, slice_of(value), 600);
	add_mrkdwn(out, &b);
	buffer_done(&b);
}

static void
add_fields(struct buffer *out, const struct alert_event *e,
    const struct slack_place *place)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	char span[CLOCK_SPAN_BYTES], iso[CLOCK_ISO_BYTES];

	buffer_add_str(out, ",{\"type\":\"section\",\"fields\":[");
	add_field(out, "Instance", e->instance);
	add_field(out, "Host", place->host);
	add_field(out, scope_name(e->scope), *e->subject != '\0' ?
	    e->subject : e->subject_title);
	buffer_printf(&b, "%s is %s (limit: %s %s)", e->figure, e->value_text,
	    e->op, e->threshold_text);
	add_field(out, "Figure", buffer_cstr(&b));
	buffer_clear(&b);
	buffer_printf(&b, "%s, since %s", clock_span(span, e->duration_us),
	    clock_iso(iso, e->since_us, false));
	if (e->kind == ALERT_EVENT_RESOLVED)
		buffer_printf(&b, " until %s", clock_iso(iso, e->at_us,
		    false));
	add_field(out, "For", buffer_cstr(&b));
	buffer_clear(&b);
	buffer_printf(&b, "%s (%s for %s)", e->rule, e->when,
	    clock_span(span, e->for_us));
	add_field(out, "Rule", buffer_cstr(&b));
	buffer_add_str(out, "]}");
}

static void
add_lines(struct buffer *out, const struct alert_event *e)
{
	/* Its escapes included, all of them fit into one section. */
	const size_t each = (SLACK_SECTION_MAX - 300) / RECENT_LINES;
	struct buffer b = BUFFER_INIT;
	char iso[CLOCK_ISO_BYTES];

	if (e->nlines == 0)
		return;
	buffer_add_str(&b, "*Last warnings*\n```");
	for (unsigned i = 0; i < e->nlines; i++) {
		buffer_printf(&b, "%s%s ", i == 0 ? "" : "\n",
		    clock_iso(iso, e->lines[i]->at_us, false));
		add_code(&b, e->lines[i]->text, each - CLOCK_ISO_BYTES);
	}
	buffer_add_str(&b, "```");
	add_section(out, &b);
	buffer_done(&b);
}

/* What to look at. */
static void
add_help(struct buffer *out, const struct alert_event *e,
    const struct slack_place *place)
{
	/* Of the journal; base/log.c writes them. */
	static const char *const fields[FIGURE_NSCOPES] = {
		[FIGURE_QUEUE] = "BOT_QUEUE", [FIGURE_POOL] = "BOT_POOL",
		[FIGURE_CHECK] = "BOT_CHECK",
	};
	_cleanup_buffer_ struct buffer b = BUFFER_INIT, cmd = BUFFER_INIT;

	buffer_add_str(&b, "*Look at*");
	if (e->runbook != NULL) {
		buffer_add_str(&b, "\n- ");
		(void)slack_escape(&b, slice_of(e->runbook), 1500);
	}
	buffer_add_str(&b, "\n- `");
	buffer_printf(&cmd, "%s status", place->botctl);
	add_code(&b, buffer_cstr(&cmd), 400);
	buffer_add_str(&b, "`\n- `");
	buffer_clear(&cmd);
	buffer_add_str(&cmd, "journalctl -t bot-operator -p warning -n 50");
	if (fields[e->scope] != NULL) {
		buffer_printf(&cmd, " %s=", fields[e->scope]);
		add_word(&cmd, e->subject);
	}
	add_code(&b, buffer_cstr(&cmd), 800);
	buffer_add_char(&b, '`');
	add_section(out, &b);
}

static void
add_alert(struct buffer *out, const struct alert_event *e,
    const struct slack_place *place, unsigned times)
{
	struct buffer b = BUFFER_INIT;

	buffer_printf(&b, "%s *%s* ", sign(e), heading(e));
	(void)slack_escape(&b, slice_of(e->summary), SLACK_SECTION_MAX - 200);
	add_times(&b, e, times);
	/* The first has no comma. */
	buffer_add_str(out, "{\"type\":\"section\",\"text\":");
	add_mrkdwn(out, &b);
	buffer_add_char(out, '}');
	add_fields(out, e, place);
	if (e->text != NULL) {
		(void)slack_escape(&b, slice_of(e->text), SLACK_SECTION_MAX);
		add_section(out, &b);
	}
	if (e->kind != ALERT_EVENT_RESOLVED) {
		add_lines(out, e);
		add_help(out, e, place);
	}
	buffer_done(&b);
}

/* A long one needs several sections. */
static void
add_notice(struct buffer *out, const struct alert_event *e,
    const struct slack_place *place)
{
	struct buffer b = BUFFER_INIT;
	struct slice rest = slice_of(e->summary);

	buffer_printf(&b, "%s *%s* ", sign(e), heading(e));
	(void)slack_escape(&b, slice_of(e->instance), 300);
	buffer_add_str(&b, " on ");
	(void)slack_escape(&b, slice_of(place->host), 300);
	buffer_add_str(out, "{\"type\":\"section\",\"text\":");
	add_mrkdwn(out, &b);
	buffer_add_char(out, '}');
	while (rest.n != 0) {
		struct slice part = rest;
		size_t n;

		/* So much fits whatever is in it, and nothing is cut. */
		part.n = MIN(part.n, (size_t)SLACK_SECTION_MAX / 5);
		for (n = 0; n + character_len(rest, n) <= part.n;)
			n += character_len(rest, n);
		part.n = n;
		(void)slack_escape(&b, part, SLACK_SECTION_MAX);
		add_section(out, &b);
		rest.p += n;
		rest.n -= n;
	}
	buffer_done(&b);
}

/* ---- messages ---- */

/* One line, for notifications of the phone and for readers without blocks. */
static void
add_text(struct buffer *out, const struct alert_event *e, const char *host,
    unsigned times)
{
	struct buffer b = BUFFER_INIT;

	buffer_printf(&b, "%s ", heading(e));
	(void)slack_escape(&b, slice_of(e->instance), 300);
	if (host != NULL) {
		buffer_add_char(&b, '@');
		(void)slack_escape(&b, slice_of(host), 300);
	}
	buffer_add_str(&b, ": ");
	(void)slack_escape(&b, slice_of(e->summary), SLACK_TEXT_MAX - 700);
	add_times(&b, e, times);
	buffer_add_str(out, "\"text\":");
	json_add_string(out, buffer_slice(&b));
	buffer_done(&b);
}

void
slack_message(struct buffer *out, const struct alert_event *e,
    const struct slack_place *place, unsigned times)
{
	add_text(out, e, place->host, times);
	buffer_add_str(out, ",\"blocks\":[");
	if (e->kind == ALERT_EVENT_NOTICE)
		add_notice(out, e, place);
	else
		add_alert(out, e, place, times);
	buffer_add_char(out, ']');
}

void
slack_reply(struct buffer *out, const struct alert_event *e, unsigned times)
{
	add_text(out, e, NULL, times);
}
