#include <inttypes.h>
#include <strings.h>

#include "base/alloc.h"
#include "config/internal.h"

/* ---- limits ---- */

static void
limit_format(const struct config_key *row, struct buffer *b, uint64_t n)
{
	switch (row->type) {
	case CONFIG_BYTES:
		bytes_format(b, n);
		break;
	case CONFIG_SPAN:
	case CONFIG_SPAN_RANGE:
		span_format(b, n);
		break;
	case CONFIG_RATE:
		buffer_printf(b, "%g/s", (double)n / 1000);
		break;
	case CONFIG_PERCENT:
		buffer_add_u64(b, n);
		buffer_add_char(b, '%');
		break;
	default:
		buffer_add_u64(b, n);
	}
}

bool
value_limits(const struct config_key *row, struct buffer *b)
{
	if (row->min == 0 && row->max == 0)
		return false;
	if (row->max == 0) {
		buffer_add_str(b, "at least ");
		limit_format(row, b, row->min);
	} else if (row->min == 0 && (row->type == CONFIG_RATE ||
	    row->type == CONFIG_STRING || row->type == CONFIG_WORDS)) {
		buffer_add_str(b, "at most ");
		limit_format(row, b, row->max);
	} else {
		limit_format(row, b, row->min);
		buffer_add_str(b, " to ");
		limit_format(row, b, row->max);
	}
	if (row->type == CONFIG_STRING)
		buffer_add_str(b, " bytes long");
	if (row->type == CONFIG_WORDS)
		buffer_add_str(b, " words");
	return true;
}

static int
check_limits(const struct config_key *row, uint64_t n, struct buffer *why)
{
	if (n >= row->min && (row->max == 0 || n <= row->max))
		return 0;
	buffer_add_str(why, "out of range: ");
	(void)value_limits(row, why);
	return -EINVAL;
}

/* ---- one type after the other ---- */

static int
parse_bool(const char *text, uint64_t *ret, struct buffer *why)
{
	static const char *const words[] = {
		"no", "yes", "false", "true", "off", "on", "0", "1",
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcasecmp(text, words[i]) == 0) {
			*ret = i % 2;
			return 0;
		}
	}
	buffer_add_str(why, "expected yes or no");
	return -EINVAL;
}

static int
parse_unsigned(const char *text, uint64_t *ret, struct buffer *why)
{
	switch (slice_to_u64(slice_of(text), ret)) {
	case 0:
		return 0;
	case -ERANGE:
		buffer_add_str(why, "the number is too large");
		return -EINVAL;
	default:
		buffer_add_str(why, "expected a whole number without a unit");
		return -EINVAL;
	}
}

static int
parse_choice(const struct config_key *row, const char *text, uint64_t *ret,
    struct buffer *why)
{
	_cleanup_free_ char *copy = xstrdup(row->choices);
	const char *names[64];
	char *at = copy, *word;
	size_t n = 0;

	while (n < ARRAY_SIZE(names) && (word = strsep(&at, "|")) != NULL) {
		if (strcmp(word, text) == 0) {
			*ret = n;
			return 0;
		}
		names[n++] = word;
	}
	buffer_printf(why, "unknown value \"%.80s\"", text);
	suggestion_add(why, text, names, n);
	buffer_add_str(why, "; known:");
	for (size_t i = 0; i < n; i++)
		buffer_printf(why, " %s", names[i]);
	return -EINVAL;
}

static int
parse_end(enum config_type type, const char *text, uint64_t *ret,
    struct buffer *why)
{
	return type == CONFIG_SPAN_RANGE ? span_parse(text, ret, why) :
	    parse_unsigned(text, ret, why);
}

static bool
has_unit(const char *text)
{
	return text[strspn(text, "0123456789.")] != '\0';
}

static void
trim_end(char *s)
{
	size_t n = strlen(s);

	while (n != 0 && (s[n - 1] == ' ' || s[n - 1] == '\t'))
		s[--n] = '\0';
}

static int
parse_range(const struct config_key *row, const char *text,
    struct parsed *ret, struct buffer *why)
{
	_cleanup_free_ char *low = xstrdup(text);
	char *high = strchr(low, '-');

	if (high != NULL) {
		*high++ = '\0';
		trim_end(low);
		high += strspn(high, " \t");
		if (*low == '\0' || *high == '\0') {
			buffer_printf(why, "expected a range such as %s",
			    row->type == CONFIG_SPAN_RANGE ? "2s-5min" : "2-8");
			return -EINVAL;
		}
	}
	if (parse_end(row->type, low, &ret->min, why) < 0)
		return -EINVAL;
	ret->max = ret->min;
	if (high != NULL) {
		if (parse_end(row->type, high, &ret->max, why) < 0)
			return -EINVAL;
		/* In "2-5min", are the 2 seconds or minutes? */
		if (row->type == CONFIG_SPAN_RANGE && ret->min != 0 &&
		    has_unit(high) && !has_unit(low)) {
			buffer_printf(why, "write the unit of \"%s\" too", low);
			return -EINVAL;
		}
	}
	if (ret->min > ret->max) {
		buffer_add_str(why, "the smaller one comes first");
		return -EINVAL;
	}
	if (check_limits(row, ret->min, why) < 0)
		return -EINVAL;
	return ret->max == ret->min ? 0 : check_limits(row, ret->max, why);
}

static int
check_rate(const struct config_key *row, double rate, struct buffer *why)
{
	if (rate * 1000 >= (double)row->min &&
	    (row->max == 0 || rate * 1000 <= (double)row->max))
		return 0;
	buffer_add_str(why, "out of range: ");
	(void)value_limits(row, why);
	return -EINVAL;
}

/* Words are split before specifiers: a directory's name stays one word. */
static int
parse_words(const struct config_key *row, const char *text,
    const struct value_context *context, struct parsed *ret,
    struct buffer *why)
{
	char **words;
	size_t n;
	int r;

	r = words_split(text, &words, &n, why);
	if (r < 0)
		return r;
	if (ret->nwords + n > CONFIG_WORDS_MAX) {
		buffer_printf(why, "more than %zu words", CONFIG_WORDS_MAX);
		r = -EINVAL;
	} else if (row->max != 0 && ret->nwords + n > row->max) {
		buffer_printf(why, "more than %" PRIu64 " words", row->max);
		r = -EINVAL;
	}
	for (size_t i = 0; r == 0 && i < n; i++) {
		_cleanup_buffer_ struct buffer b = BUFFER_INIT;

		r = specifiers_expand(words[i], context, &b, why);
		if (r == 0) {
			free(words[i]);
			words[i] = buffer_dup(&b);
		}
	}
	if (r == 0) {
		ret->words = xreallocarray(ret->words, ret->nwords + n + 1,
		    sizeof(*ret->words));
		for (size_t i = 0; i < n; i++)
			ret->words[ret->nwords++] = (char *)(uintptr_t)
			    chunk_copy(context->chunk, words[i],
			    strlen(words[i])).p;
		ret->words[ret->nwords] = NULL;
	}
	words_free(words);
	return r;
}

static int
parse_percent(const char *text, uint64_t *ret, struct buffer *why)
{
	size_t n = strlen(text);

	if (n == 0 || text[n - 1] != '%' ||
	    slice_to_u64((struct slice){ text, n - 1 }, ret) < 0) {
		buffer_printf(why, "\"%.40s\" is no percentage, such as 50%%",
		    text);
		return -EINVAL;
	}
	return 0;
}

static int
parse_one(const struct config_key *row, const char *text,
    const struct value_context *context, struct parsed *ret,
    struct buffer *why)
{
	int r;

	switch (row->type) {
	case CONFIG_STRING:
		return check_limits(row, strlen(text), why);
	case CONFIG_PATH:
		return path_resolve(text, context, &ret->text, why);
	case CONFIG_ADDRESS:
		return address_check(text, why);
	case CONFIG_BOOL:
		return parse_bool(text, &ret->min, why);
	case CONFIG_CHOICE:
		return parse_choice(row, text, &ret->min, why);
	case CONFIG_UNSIGNED:
		r = parse_unsigned(text, &ret->min, why);
		break;
	case CONFIG_PERCENT:
		r = parse_percent(text, &ret->min, why);
		break;
	case CONFIG_BYTES:
		r = bytes_parse(text, &ret->min, why);
		break;
	case CONFIG_SPAN:
		r = span_parse(text, &ret->min, why);
		break;
	case CONFIG_UNSIGNED_RANGE:
	case CONFIG_SPAN_RANGE:
		return parse_range(row, text, ret, why);
	case CONFIG_RATE:
		r = rate_parse(text, &ret->rate, why);
		return r < 0 ? r : check_rate(row, ret->rate, why);
	default:
		BUG("key %s has type %d", row->name, (int)row->type);
	}
	return r < 0 ? r : check_limits(row, ret->min, why);
}

int
value_parse(const struct config_key *row, const char *text,
    const struct value_context *context, struct parsed *ret,
    struct buffer *why)
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	struct parsed fresh = { .text = NULL };
	int r;

	if (row->type == CONFIG_WORDS)
		return parse_words(row, text, context, ret, why);
	if (row->type == CONFIG_PERCENT)
		buffer_add_str(&b, text);
	else if ((r = specifiers_expand(text, context, &b, why)) < 0)
		return r;
	r = parse_one(row, buffer_cstr(&b), context, &fresh, why);
	if (r < 0)
		return r;
	if (fresh.text == NULL)
		fresh.text = chunk_copy(context->chunk, buffer_head(&b),
		    buffer_len(&b)).p;
	*ret = fresh;
	return 0;
}

/* ---- comparing and showing ---- */

static bool
same_words(const struct parsed *a, const struct parsed *b)
{
	if (a->nwords != b->nwords)
		return false;
	for (size_t i = 0; i < a->nwords; i++)
		if (strcmp(a->words[i], b->words[i]) != 0)
			return false;
	return true;
}

bool
value_same(const struct config_key *row, const struct parsed *a,
    const struct parsed *b)
{
	if (row->type == CONFIG_WORDS)
		return same_words(a, b);
	if (a->text == NULL || b->text == NULL)
		return a->text == b->text;
	switch (row->type) {
	case CONFIG_STRING:
	case CONFIG_PATH:
	case CONFIG_ADDRESS:
	case CONFIG_CHOICE:
		return strcmp(a->text, b->text) == 0;
	default:
		/* "60s" and "1min" are the same. */
		return a->min == b->min && a->max == b->max &&
		    !(a->rate < b->rate) && !(a->rate > b->rate);
	}
}

/* What came out of specifiers must not be taken for one. */
static void
add_escaped(struct buffer *b, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '%')
			buffer_add_char(b, '%');
		buffer_add_char(b, *text);
	}
}

void
value_format(const struct config_key *row, const struct parsed *v,
    struct buffer *b)
{
	_cleanup_buffer_ struct buffer words = BUFFER_INIT;

	if (row->type == CONFIG_PERCENT) {
		buffer_add_str(b, v->text != NULL ? v->text : "");
		return;
	}
	if (row->type != CONFIG_WORDS) {
		const char *text = v->text != NULL ? v->text : "";
		size_t n = strlen(text);

		add_escaped(b, text);
		/* Reading would trim a blank and join lines at a backslash. */
		if (row->type == CONFIG_PATH && n != 0 &&
		    strchr(" \t\\", text[n - 1]) != NULL)
			buffer_add_char(b, '/');
		return;
	}
	for (size_t i = 0; i < v->nwords; i++) {
		if (i != 0)
			buffer_add_char(&words, ' ');
		words_quote(&words, v->words[i]);
	}
	add_escaped(b, buffer_cstr(&words));
}
