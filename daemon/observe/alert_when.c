#include "observe/alert_when.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <strings.h>

static const char *const op_texts[] = {
	[ALERT_ABOVE] = ">", [ALERT_AT_LEAST] = ">=", [ALERT_BELOW] = "<",
	[ALERT_AT_MOST] = "<=", [ALERT_EQUAL] = "==", [ALERT_NOT_EQUAL] = "!=",
};

const char *
alert_op_text(enum alert_op op)
{
	return (size_t)op < ARRAY_SIZE(op_texts) && op_texts[op] != NULL ?
	    op_texts[op] : "?";
}

bool
alert_when_holds(enum alert_op op, double value, double threshold)
{
	switch (op) {
	case ALERT_ABOVE:
		return value > threshold;
	case ALERT_AT_LEAST:
		return value >= threshold;
	case ALERT_BELOW:
		return value < threshold;
	case ALERT_AT_MOST:
		return value <= threshold;
	case ALERT_EQUAL:
		return value >= threshold && value <= threshold;
	default:
		return value < threshold || value > threshold;
	}
}

static int
parse_bool(const char *text, double *ret, struct buffer *why)
{
	static const char *const words[] = { "no", "yes", "false", "true" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcasecmp(words[i], text) == 0) {
			*ret = (double)(i % 2);
			return 0;
		}
	}
	buffer_printf(why, "it is yes or no, not \"%.40s\"", text);
	return -EINVAL;
}

static int
parse_health(const char *text, double *ret, struct buffer *why)
{
	/* Rules rest while it is draining, and starting is not known yet. */
	static const enum health known[] = { HEALTH_OK, HEALTH_DEGRADED,
		HEALTH_DOWN };
	const char *names[ARRAY_SIZE(known)], *near;

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		names[i] = health_name(known[i]);
		if (strcmp(names[i], text) == 0) {
			*ret = (double)known[i];
			return 0;
		}
	}
	near = config_suggest(text, names, ARRAY_SIZE(names));
	buffer_printf(why, "unknown health \"%.40s\"", text);
	if (near != NULL)
		buffer_printf(why, "; did you mean \"%s\"?", near);
	buffer_add_str(why, "; known: ok degraded down");
	return -EINVAL;
}

/* Digits with at most one point; strtod would take "0x10", "inf", "nan". */
static int
parse_number(const char *text, double *ret, struct buffer *why)
{
	const char *p = text + (*text == '-');
	size_t whole = strspn(p, "0123456789"), parts = 0;

	if (p[whole] == '.')
		parts = strspn(p + whole + 1, "0123456789");
	p += whole + (p[whole] == '.' ? 1 + parts : 0);
	if (whole + parts == 0 || whole + parts > 18) {
		buffer_printf(why, "\"%.40s\" is not a number", text);
		return -EINVAL;
	}
	if (*p == ',' || *p == '_' || *p == '\'') {
		buffer_printf(why, "write the number without \"%c\"", *p);
		return -EINVAL;
	}
	if (*p != '\0') {
		buffer_printf(why, "what is \"%.40s\" behind the number?", p);
		return -EINVAL;
	}
	*ret = strtod(text, NULL);
	return 0;
}

int
alert_when_value(const char *text, const struct figure *f, double *ret,
    struct buffer *why)
{
	switch (f->kind) {
	case FIGURE_BOOL:
		return parse_bool(text, ret, why);
	case FIGURE_HEALTH:
		return parse_health(text, ret, why);
	default:
		return parse_number(text, ret, why);
	}
}

static int
parse_op(const char *text, size_t n, enum alert_op *ret, struct buffer *why)
{
	for (enum alert_op op = ALERT_ABOVE; op <= ALERT_NOT_EQUAL; op++) {
		if (strlen(op_texts[op]) == n &&
		    memcmp(op_texts[op], text, n) == 0) {
			*ret = op;
			return 0;
		}
	}
	if (n == 0)
		buffer_add_str(why, "the operator is missing");
	else
		buffer_printf(why, "unknown operator \"%.*s\"%s",
		    (int)MIN(n, (size_t)8), text,
		    n == 1 && *text == '=' ? "; did you mean \"==\"?" :
		    n == 2 && memcmp(text, "=>", 2) == 0 ?
		    "; did you mean \">=\"?" :
		    n == 2 && memcmp(text, "=<", 2) == 0 ?
		    "; did you mean \"<=\"?" :
		    n == 2 && memcmp(text, "<>", 2) == 0 ?
		    "; did you mean \"!=\"?" : "");
	buffer_add_str(why, "; known: > >= < <= == !=");
	return -EINVAL;
}

int
alert_when_parse(const char *text, const char *const *own,
    struct alert_when *ret, struct buffer *why)
{
	struct alert_when w = { .op = 0 };
	char value[FIGURE_TEXT_BYTES];
	const char *p = text, *start;
	size_t n;

	while (isspace((unsigned char)*p))
		p++;
	start = p;
	while (*p != '\0' && !isspace((unsigned char)*p) &&
	    strchr("<>=!", *p) == NULL)
		p++;
	if (figure_find(start, (size_t)(p - start), own, &w.figure, why) < 0)
		return -EINVAL;
	while (isspace((unsigned char)*p))
		p++;
	n = strspn(p, "<>=!");
	if (parse_op(p, n, &w.op, why) < 0)
		return -EINVAL;
	p += n;
	while (isspace((unsigned char)*p))
		p++;
	n = strlen(p);
	while (n != 0 && isspace((unsigned char)p[n - 1]))
		n--;
	if (n == 0 || n >= sizeof(value)) {
		buffer_printf(why, "%s behind %s", n == 0 ?
		    "a value is missing" : "the value is too long",
		    op_texts[w.op]);
		return -EINVAL;
	}
	memcpy(value, p, n);
	value[n] = '\0';
	if (w.figure.kind != FIGURE_NUMBER && w.op < ALERT_EQUAL) {
		buffer_printf(why, "%s compares with == and != only",
		    w.figure.name);
		return -EINVAL;
	}
	if (alert_when_value(value, &w.figure, &w.threshold, why) < 0)
		return -EINVAL;
	snprintf(w.text, sizeof(w.text), "%s %s %s", w.figure.name,
	    op_texts[w.op], value);
	*ret = w;
	return 0;
}
