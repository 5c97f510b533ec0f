#include "codec/google_json.h"

#include "base/alloc.h"
#include "base/secret.h"

/* Of malloc's alignment; in front of each piece. */
union piece {
	size_t n;
	max_align_t align;
};

static json_malloc_t old_malloc;
static json_free_t old_free;
static bool is_open;

static void *
piece_new(size_t n)
{
	union piece *p = xmalloc(sizeof(*p) + n);

	p->n = n;
	return p + 1;
}

static void
piece_free(void *at)
{
	union piece *p = at;

	if (p == NULL)
		return;
	p--;
	secret_wipe(p + 1, p->n);
	free(p);
}

static void
close_allocator(void)
{
	json_set_alloc_funcs(old_malloc, old_free);
	is_open = false;
}

json_t *
google_json_open(struct slice text, enum error_class class, const char *code,
    const char *what, struct error *err)
{
	json_error_t where;
	json_t *o;

	BUG_ON(is_open);
	json_get_alloc_funcs(&old_malloc, &old_free);
	json_set_alloc_funcs(piece_new, piece_free);
	is_open = true;
	o = json_loadb(text.p != NULL ? text.p : "", text.n, 0, &where);
	if (o == NULL)		/* its text quotes the input */
		error_set(err, class, code, "%s is no JSON (line %d, "
		    "column %d)", what, where.line, where.column);
	else if (!json_is_object(o))
		error_set(err, class, code, "%s is no JSON object", what);
	else
		return o;
	json_decref(o);
	close_allocator();
	secret_wipe(&where, sizeof(where));
	return NULL;
}

void
google_json_close(json_t *o)
{
	BUG_ON(!is_open);
	json_decref(o);
	close_allocator();
}

const char *
google_json_string(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s != NULL ? s : "";
}

struct slice
google_json_slice(const json_t *o, const char *name)
{
	const json_t *v = json_object_get(o, name);

	return (struct slice){ json_string_value(v), json_string_length(v) };
}

bool
google_json_number(const json_t *v, uint64_t *ret)
{
	struct slice text = { json_string_value(v), json_string_length(v) };

	if (json_is_string(v))
		return slice_to_u64(text, ret) == 0;
	if (json_is_integer(v) && json_integer_value(v) >= 0) {
		*ret = (uint64_t)json_integer_value(v);
		return true;
	}
	/* 2^63: what is above would not fit. */
	if (json_is_real(v) && json_real_value(v) >= 0 &&
	    json_real_value(v) < 9.2e18) {
		*ret = (uint64_t)json_real_value(v);
		return true;
	}
	return false;
}

bool
google_is_word(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] > '~')
			return false;
	return s.n != 0;
}
