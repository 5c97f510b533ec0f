#include "config/internal.h"

/* systemd lists several directories with colons; the first is ours. */
static void
add_directory(struct buffer *out, const char *variable, const char *fallback)
{
	const char *dir = getenv(variable);

	if (dir == NULL || *dir != '/')
		buffer_add_str(out, fallback);
	else
		buffer_add(out, dir, strcspn(dir, ":"));
}

/*
 * Outside of the service ("botctl check-config" in a shell) there is no
 * credentials directory; then %d is where systemd would put it, so that the
 * configuration is good or bad independent of who looks.
 */
static void
add_credentials(struct buffer *out, const char *instance)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");

	if (dir != NULL && *dir == '/')
		buffer_add_str(out, dir);
	else if (strcmp(instance, "bot-operator") == 0)
		buffer_add_str(out, "/run/credentials/bot-operator.service");
	else
		buffer_printf(out, "/run/credentials/bot-operator@%s.service",
		    instance);
}

int
specifiers_expand(const char *text, const struct value_context *context,
    struct buffer *out, struct buffer *why)
{
	for (const char *p = text; *p != '\0'; p++) {
		if (buffer_len(out) > CONFIG_VALUE_MAX)
			break;
		if (*p != '%') {
			buffer_add_char(out, *p);
			continue;
		}
		switch (*++p) {
		case '%':
			buffer_add_char(out, '%');
			break;
		case 'd':
			add_credentials(out, context->instance);
			break;
		case 'i':
			buffer_add_str(out, context->instance);
			break;
		case 'S':
			add_directory(out, "STATE_DIRECTORY",
			    "/var/lib/bot-operator");
			break;
		case 't':
			add_directory(out, "RUNTIME_DIRECTORY",
			    "/run/bot-operator");
			break;
		case '\0':
			buffer_add_str(why, "ends in a single %; write %% for "
			    "a percent sign");
			return -EINVAL;
		default:
			buffer_printf(why, "unknown specifier %%%.*s; known: "
			    "%%d %%i %%S %%t, and %%%% for a percent sign",
			    (unsigned char)*p < 0x80 ? 1 : 0, p);
			return -EINVAL;
		}
	}
	if (buffer_len(out) > CONFIG_VALUE_MAX) {
		buffer_printf(why, "longer than %zu bytes with its specifiers "
		    "replaced", CONFIG_VALUE_MAX);
		return -EINVAL;
	}
	return 0;
}
