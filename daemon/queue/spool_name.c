#include "queue/spool_name.h"

#include <stdio.h>

#include "base/random.h"

#define COUNT_MAX	999999u
#define DUE_DIGITS	13
#define DUE_MAX		UINT64_C(9999999999999)		/* the year 2286 */
#define TAG_DIGITS	16

static bool
ends_in(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && memcmp(s + n - m, end, m) == 0;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The number that ends at *end, at most six digits; moves *end before it. */
static bool
number_before(const char *s, size_t *end, unsigned *ret)
{
	unsigned value = 0, scale = 1;
	size_t i = *end;

	while (i > 0 && is_digit(s[i - 1]) && *end - i < 6) {
		value += scale * (unsigned)(s[--i] - '0');
		scale *= 10;
	}
	if (i == *end)
		return false;
	*end = i;
	*ret = value;
	return true;
}

/* Length of the base in front of a ":aN,cM"; 0 when there is none. */
static size_t
find_suffix(const char *s, unsigned *attempt, unsigned *crashes)
{
	size_t end = strlen(s);

	if (!number_before(s, &end, crashes) || end < 2 ||
	    s[end - 1] != 'c' || s[end - 2] != ',')
		return 0;
	end -= 2;
	if (!number_before(s, &end, attempt) || end < 2 ||
	    s[end - 1] != 'a' || s[end - 2] != ':' || *attempt == 0)
		return 0;
	return end - 2;
}

void
spool_name_parse(struct spool_name *name, const char *file)
{
	unsigned attempt, crashes;
	size_t n = find_suffix(file, &attempt, &crashes);

	name->due_ms = 0;
	if (n == 0) {
		n = strlen(file);
		attempt = 1;
		crashes = 0;
	}
	n = MIN(n, (size_t)SPOOL_NAME_BYTES - 1);
	memcpy(name->base, file, n);
	name->base[n] = '\0';
	name->attempt = attempt;
	name->crashes = crashes;
}

void
spool_name_format(const struct spool_name *name, char out[SPOOL_NAME_BYTES])
{
	unsigned a, c, attempt = name->attempt, crashes = name->crashes;

	/* A base that looks like one with a suffix always gets a real one. */
	if (attempt <= 1 && crashes == 0 && find_suffix(name->base, &a, &c) == 0) {
		snprintf(out, SPOOL_NAME_BYTES, "%s", name->base);
		return;
	}
	snprintf(out, SPOOL_NAME_BYTES, "%.*s:a%u,c%u", SPOOL_BASE_MAX + 20,
	    name->base, MIN(MAX(attempt, 1u), COUNT_MAX),
	    MIN(crashes, COUNT_MAX));
}

int
spool_name_parse_delayed(struct spool_name *name, const char *file)
{
	uint64_t due;
	size_t n = strspn(file, "0123456789");

	if (n != DUE_DIGITS || file[n] != '.' || file[n + 1] == '\0' ||
	    slice_to_u64((struct slice){ file, n }, &due) < 0)
		return -EINVAL;
	spool_name_parse(name, file + n + 1);
	name->due_ms = due;
	return 0;
}

void
spool_name_format_delayed(const struct spool_name *name,
    char out[SPOOL_NAME_BYTES])
{
	char rest[SPOOL_NAME_BYTES];

	spool_name_format(name, rest);
	snprintf(out, SPOOL_NAME_BYTES, "%013llu.%.*s",
	    (unsigned long long)MIN(name->due_ms, DUE_MAX),
	    SPOOL_NAME_BYTES - 2 - DUE_DIGITS, rest);
}

/* Where the "~"s behind ".json" start; NULL when it does not end like that. */
static char *
record_tail(char *s)
{
	size_t n = strlen(s);

	while (n > 0 && s[n - 1] == '~')
		n--;
	if (n <= sizeof(SPOOL_RECORD) - 1 ||
	    memcmp(s + n - (sizeof(SPOOL_RECORD) - 1), SPOOL_RECORD,
	    sizeof(SPOOL_RECORD) - 1) != 0)
		return NULL;
	return s + n;
}

void
spool_name_parse_dead(struct spool_name *name, const char *file)
{
	size_t n = MIN(strlen(file), (size_t)SPOOL_NAME_BYTES - 1);
	char *tail;

	*name = (struct spool_name){ .attempt = 1 };
	memcpy(name->base, file, n);
	tail = record_tail(name->base);
	if (tail != NULL && *tail == '~')
		name->base[n - 1] = '\0';
}

void
spool_name_format_dead(const struct spool_name *name,
    char out[SPOOL_NAME_BYTES])
{
	size_t n;

	snprintf(out, SPOOL_NAME_BYTES, "%.*s", SPOOL_NAME_BYTES - 2,
	    name->base);
	if (record_tail(out) != NULL) {
		n = strlen(out);
		out[n] = '~';
		out[n + 1] = '\0';
	}
}

bool
spool_name_is_envelope(const char *base)
{
	return ends_in(base, SPOOL_ENVELOPE);
}

bool
spool_name_is_record(const char *file)
{
	return ends_in(file, SPOOL_RECORD);
}

/* stem~TAG, the stem cut to fit and at a character's start; keeps .envelope. */
static void
retag(struct spool_name *name, const char *tag)
{
	bool envelope = spool_name_is_envelope(name->base);
	const char *end = envelope ? SPOOL_ENVELOPE : "";
	size_t n = strlen(name->base) - strlen(end);
	size_t room = SPOOL_BASE_MAX - 1 - strlen(tag) - strlen(end);
	char out[SPOOL_NAME_BYTES];

	if (n > room)
		for (n = room; n > room - 3 &&
		    ((unsigned char)name->base[n] & 0xc0) == 0x80; n--)
			continue;
	snprintf(out, sizeof(out), "%.*s~%s%s", (int)n, name->base, tag, end);
	memcpy(name->base, out, sizeof(out));
}

void
spool_name_shorten(struct spool_name *name)
{
	uint64_t hash = UINT64_C(14695981039346656037);		/* FNV-1a */
	char tag[TAG_DIGITS + 1];

	if (strlen(name->base) <= SPOOL_BASE_MAX)
		return;
	for (const char *p = name->base; *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * UINT64_C(1099511628211);
	snprintf(tag, sizeof(tag), "%016llx", (unsigned long long)hash);
	retag(name, tag);
}

void
spool_name_vary(struct spool_name *name)
{
	char tag[9];

	random_hex(tag, 8);
	retag(name, tag);
}

void
spool_name_show(char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			s[i] = '?';
}

void
spool_name_id(const char *file, char out[3 * SPOOL_NAME_BYTES])
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;

	for (; *file != '\0' && n < 3 * SPOOL_NAME_BYTES - 4; file++) {
		unsigned char c = (unsigned char)*file;

		if (c > 0x20 && c < 0x7f && c != '%') {
			out[n++] = (char)c;
			continue;
		}
		out[n++] = '%';
		out[n++] = hex[c >> 4];
		out[n++] = hex[c & 15];
	}
	out[n] = '\0';
}
