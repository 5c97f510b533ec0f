/*
 * [Check NAME]: the keys, and reading them.
 */
#include <stdio.h>

#include "base/alloc.h"
#include "observe/check_impl.h"

/* A new kind of check is one more of these, and its key below. */
static const struct check_kind *const kinds[] = {
	&check_tcp, &check_tls, &check_http, &check_redis, &check_command,
};

static const struct config_key keys[] = {
	{ "TCP", CONFIG_ADDRESS, NULL, NULL, 0, 0, 0,
	    "host:port, [v6]:port or the path of a Unix socket that must "
	    "accept a connection." },
	{ "TLS", CONFIG_ADDRESS, NULL, NULL, 0, 0, 0,
	    "host:port with which a TLS handshake must succeed; the "
	    "certificate is verified, and its days left are shown. Port 443 "
	    "when none is written." },
	{ "HTTP", CONFIG_STRING, NULL, NULL, 0, 0, 0,
	    "An http:// or https:// URL that must answer a GET with one of "
	    "Status=. Redirects are not followed. HTTPS_PROXY and the like of "
	    "the operator's environment are honoured." },
	{ "Redis", CONFIG_ADDRESS, NULL, NULL, 0, 0, 0,
	    "A Redis server that must answer PING. Port 6379 when none is "
	    "written. With CAFile= it speaks TLS." },
	{ "Command", CONFIG_WORDS, NULL, NULL, 0, 0, 0,
	    "A program with its arguments that must exit with 0 within "
	    "Timeout=; else it gets SIGKILL with all of its process group. "
	    "Without a slash it is looked up in $PATH. It runs as the "
	    "operator's own user, with PATH, LANG, LC_*, TZ, HOME and USER for "
	    "its environment. The last line of its stderr is the reason that "
	    "is shown." },
	{ "Interval", CONFIG_SPAN, "30s", NULL, 100000, 0, CONFIG_RELOAD,
	    "How often to look; one that is still under way is not begun "
	    "again." },
	{ "Timeout", CONFIG_SPAN, "5s", NULL, 10000, 3600 * USEC_PER_SEC,
	    CONFIG_RELOAD,
	    "How long one look may take, from the name lookup on." },
	{ "Failures", CONFIG_UNSIGNED, "2", NULL, 1, 1000, CONFIG_RELOAD,
	    "So many bad results in a row make it down. The very first result "
	    "counts by itself." },
	{ "Successes", CONFIG_UNSIGNED, "1", NULL, 1, 1000, CONFIG_RELOAD,
	    "So many good results in a row bring it back." },
	{ "Critical", CONFIG_BOOL, "no", NULL, 0, 0, CONFIG_RELOAD,
	    "Whether the operator as a whole is degraded while it is down. A "
	    "check that a queue requires always counts; any other is only "
	    "shown as a warning." },
	{ "DaysLeft", CONFIG_UNSIGNED, "14", NULL, 0, 3650, CONFIG_RELOAD,
	    "TLS, Redis: with fewer days left of the certificate the check is "
	    "not ok any more. It is not down, and no queue pauses, until the "
	    "certificate has ended." },
	{ "Status", CONFIG_UNSIGNED_RANGE, "200-299", NULL, 100, 599, 0,
	    "HTTP: which status codes are good." },
	{ "CAFile", CONFIG_PATH, NULL, NULL, 0, 0, 0,
	    "TLS, HTTP, Redis: certificates (PEM) that the server's must be "
	    "signed by. Default: the system's." },
	{ "ServerName", CONFIG_STRING, NULL, NULL, 1, 253, 0,
	    "TLS, Redis: the name that the server's certificate must have. "
	    "Default: the host of the address." },
	{ "Username", CONFIG_STRING, NULL, NULL, 0, 0, 0,
	    "Redis: the ACL user. Default: the default user." },
	{ "PasswordFile", CONFIG_PATH, NULL, NULL, 0, 0, CONFIG_SECRET_FILE,
	    "Redis: a file with the password, such as %d/redis. Read at each "
	    "look." },
};

const struct config_kind check_config_kind = {
	"Check", true, NULL, NULL, keys, ARRAY_SIZE(keys),
	"Something that handlers need, looked at again and again. Exactly one "
	"of TCP=, TLS=, HTTP=, Redis=, Command= must be set. Queues that name "
	"it in Requires= are paused while it is down.",
};

/* Keys that mean something to some kinds only. */
static const struct {
	const char *key;
	unsigned use;
} special[] = {
	{ "DaysLeft", CHECK_USES_DAYS },
	{ "Status", CHECK_USES_STATUS },
	{ "CAFile", CHECK_USES_CA },
	{ "ServerName", CHECK_USES_NAME },
	{ "Username", CHECK_USES_PASSWORD },
	{ "PasswordFile", CHECK_USES_PASSWORD },
};

const struct check_kind *
check_kind_of(struct config *c, const struct config_section *s)
{
	const struct check_kind *kind = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!config_is_set(s, kinds[i]->key))
			continue;
		if (kind != NULL) {
			config_problem(c, s, kinds[i]->key, "%s= and %s= are "
			    "both set; a check looks at one thing", kind->key,
			    kinds[i]->key);
			return NULL;
		}
		kind = kinds[i];
	}
	if (kind == NULL) {
		config_problem(c, s, NULL, "nothing to look at: set one of "
		    "TCP=, TLS=, HTTP=, Redis=, Command=");
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(special); i++)
		if ((kind->uses & special[i].use) == 0 &&
		    config_is_set(s, special[i].key))
			config_problem(c, s, special[i].key, "%s= has no "
			    "effect on a check with %s=", special[i].key,
			    kind->key);
	return kind;
}

void
check_read_common(struct dependency *d, const struct config_section *s)
{
	d->interval_us = config_span_us(s, "Interval");
	d->timeout_us = config_span_us(s, "Timeout");
	d->failures = (unsigned)config_unsigned(s, "Failures");
	d->successes = (unsigned)config_unsigned(s, "Successes");
	d->days_min = (unsigned)config_unsigned(s, "DaysLeft");
	d->critical = config_bool(s, "Critical");
}

void
check_read_address(struct dependency *d, struct config *c, const char *key,
    uint16_t default_port, struct address *ret)
{
	char text[ADDRESS_TEXT_BYTES];
	struct error err = ERROR_INIT;

	if (address_parse(ret, config_string(d->section, key), default_port,
	    &err) < 0) {
		config_problem(c, d->section, key, "%s=: %s", key, err.text);
		return;
	}
	snprintf(d->target, sizeof(d->target), "%s", address_text(ret, text));
}

struct tls_params
check_tls_params(const struct dependency *d)
{
	return (struct tls_params){
		.ca_file = config_string(d->section, "CAFile"),
		.fresh = true,
	};
}
