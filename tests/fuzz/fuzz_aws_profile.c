/*
 * Profile files, read as config and as credentials.  What is accepted lies
 * within the copy, is found again by its own name, and what is refused names
 * a line.
 */
#include "base/alloc.h"
#include "codec/aws_profile.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

struct visit {
	const struct aws_profiles *p;
	size_t bytes, n;
};

static void
on_property(void *arg, enum aws_section kind, const char *name,
    const char *key, const char *sub, const char *value)
{
	struct visit *v = arg;

	v->bytes += strlen(value) + (sub != NULL ? strlen(sub) : strlen(key));
	BUG_ON(*name == '\0' || *key == '\0');
	if (v->n++ > 64)	/* a look-up is a walk */
		return;
	BUG_ON(!aws_profiles_has(v->p, kind, name));
	BUG_ON(aws_profiles_get(v->p, kind, name, key) == NULL);
	if (sub != NULL) {
		BUG_ON(*sub == '\0');
		(void)aws_profiles_get_sub(v->p, kind, name, key, sub);
	}
}

static void
parse(enum aws_profile_file file, struct slice text)
{
	struct error err = ERROR_INIT;
	struct visit v = { .p = aws_profiles_parse(file, text, &err) };

	if (v.p == NULL) {
		BUG_ON(err.class != ERROR_REJECTED);
		BUG_ON(strncmp(err.text, "line ", 5) != 0);
		return;
	}
	aws_profiles_visit(v.p, on_property, &v);
	BUG_ON(v.bytes > text.n);
	aws_profiles_free((struct aws_profiles *)(uintptr_t)v.p);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = { (const char *)data, size };

	parse(AWS_FILE_CONFIG, text);
	parse(AWS_FILE_CREDENTIALS, text);
	return 0;
}
