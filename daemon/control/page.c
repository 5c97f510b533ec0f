#include "control/page_private.h"

#include <openssl/evp.h>
#include <stdio.h>

#include "base/alloc.h"
#include "codec/base64.h"

/* ---- the policy ---- */

static void
add_hash(struct buffer *b, const unsigned char *bytes, size_t n)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned len;

	if (EVP_Digest(bytes, n, hash, &len, EVP_sha256(), NULL) != 1)
		BUG("there is no SHA-256");
	buffer_add_str(b, "'sha256-");
	base64_add(b, (struct slice){ (const char *)hash, len });
	buffer_add_char(b, '\'');
}

const char *
page_policy(void)
{
	static char policy[512];
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;

	if (policy[0] != '\0')
		return policy;
	buffer_add_str(&b, "default-src 'none'; script-src ");
	add_hash(&b, page_script, page_script_bytes);
	buffer_add_str(&b, "; style-src ");
	add_hash(&b, page_style, page_style_bytes);
	buffer_add_str(&b, "; connect-src 'self'; img-src data:; "
	    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
	    "require-trusted-types-for 'script'");
	BUG_ON(buffer_len(&b) >= sizeof(policy));
	snprintf(policy, sizeof(policy), "%s", buffer_cstr(&b));
	return policy;
}

/* ---- the document ---- */

struct mark {
	const char *name;
	void (*add)(struct buffer *, const json_t *status, const json_t *log);
};

static void
add_title(struct buffer *b, const json_t *status, const json_t *log)
{
	(void)log;
	page_text(b, page_get_text(status, "status"));
	buffer_add_str(b, ": ");
	page_text(b, page_get_text(status, "instance"));
}

static void
add_style(struct buffer *b, const json_t *status, const json_t *log)
{
	(void)status;
	(void)log;
	buffer_add(b, page_style, page_style_bytes);
}

static void
add_script(struct buffer *b, const json_t *status, const json_t *log)
{
	(void)status;
	(void)log;
	buffer_add(b, page_script, page_script_bytes);
}

static const struct mark marks[] = {
	{ "TITLE", add_title }, { "STYLE", add_style },
	{ "TABLES", page_tables }, { "SCRIPT", add_script },
};

/* At "@NAME@" of page.html: how long it is. */
static const struct mark *
mark_at(struct slice rest, size_t *ret_bytes)
{
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		size_t n = strlen(marks[i].name);

		*ret_bytes = n + 2;
		if (rest.n >= n + 2 && rest.p[n + 1] == '@' &&
		    memcmp(rest.p + 1, marks[i].name, n) == 0)
			return &marks[i];
	}
	return NULL;
}

void
page_add(struct buffer *b, const json_t *status, const json_t *log)
{
	struct slice rest = { (const char *)page_html, page_html_bytes };
	const struct mark *m;
	const char *at;
	size_t n;

	while ((at = memchr(rest.p, '@', rest.n)) != NULL) {
		n = (size_t)(at - rest.p);
		buffer_add(b, rest.p, n);
		rest = (struct slice){ at, rest.n - n };
		m = mark_at(rest, &n);
		if (m != NULL)
			m->add(b, status, log);
		else
			buffer_add(b, rest.p, n = 1);
		rest = (struct slice){ rest.p + n, rest.n - n };
	}
	buffer_add_slice(b, rest);
}
