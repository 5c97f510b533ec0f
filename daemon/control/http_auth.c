#include "control/http_auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <strings.h>

#include "base/alloc.h"
#include "codec/base64.h"
#include "guard/security.h"

#define USER_MAX	SECURITY_NAME_MAX

void
http_auth_set(struct http_auth *a, struct secret *token)
{
	secret_free(a->token);
	a->token = token;
}

void
http_auth_done(struct http_auth *a)
{
	http_auth_set(a, NULL);
}

/* Of hashes, so that not even the length shows in the time. */
static bool
is_token(const struct http_auth *a, struct slice given)
{
	unsigned char want[EVP_MAX_MD_SIZE], got[EVP_MAX_MD_SIZE];
	struct slice token = secret_bytes(a->token);
	unsigned n;
	bool same;

	if (EVP_Digest(token.p, token.n, want, &n, EVP_sha256(), NULL) != 1 ||
	    EVP_Digest(given.p, given.n, got, &n, EVP_sha256(), NULL) != 1)
		BUG("there is no SHA-256");
	same = CRYPTO_memcmp(want, got, n) == 0;
	secret_wipe(want, sizeof(want));
	secret_wipe(got, sizeof(got));
	return same;
}

/* The rest behind "SCHEME "; false when it is another. */
static bool
cut_scheme(struct slice value, const char *scheme, struct slice *ret)
{
	size_t n = strlen(scheme);

	if (value.n <= n || strncasecmp(value.p, scheme, n) != 0 ||
	    value.p[n] != ' ')
		return false;
	while (n < value.n && value.p[n] == ' ')
		n++;
	*ret = (struct slice){ value.p + n, value.n - n };
	return true;
}

static bool
is_basic_token(const struct http_auth *a, struct slice encoded,
    char user[USER_MAX + 1])
{
	_cleanup_buffer_ struct buffer b = BUFFER_INIT;
	const char *colon;
	size_t n;
	bool ok;

	if (base64_decode(encoded, &b) < 0 || buffer_len(&b) == 0 ||
	    (colon = memchr(buffer_head(&b), ':', buffer_len(&b))) == NULL)
		return false;
	n = (size_t)(colon - buffer_head(&b));
	(void)security_clean((struct slice){ buffer_head(&b), n }, user);
	ok = is_token(a, (struct slice){ colon + 1,
	    buffer_len(&b) - n - 1 });
	secret_wipe(buffer_head(&b), buffer_len(&b));
	return ok;
}

static const char *
peer_ip(const struct address *a)
{
	static const char mapped[] = "::ffff:";
	size_t n = strlen(mapped);

	if (a->kind != ADDRESS_IP)
		return "-";
	return strncasecmp(a->host, mapped, n) == 0 &&
	    strchr(a->host, '.') != NULL ? a->host + n : a->host;
}

static void
tell(struct http_auth *a, const struct http_request *req, const char *user,
    const char *reason)
{
	a->failed++;
	security_tell(&(struct security_event){
	    .kind = SECURITY_AUTH_FAILED, .src_ip = peer_ip(req->peer),
	    .user = slice_of(user), .reason = slice_of(reason) });
}

bool
http_auth_guard(void *owner, const struct http_request *req,
    struct http_response *r)
{
	struct http_auth *a = owner;
	struct slice value = http1_header(req->head, "Authorization"), rest;
	char user[USER_MAX + 1] = "";
	const char *reason = "wrong token";

	if (a->token == NULL || slice_is(req->path, "/healthz"))
		return true;
	if (value.p == NULL)
		reason = NULL;
	else if (cut_scheme(value, "Bearer", &rest)) {
		if (is_token(a, rest))
			return true;
	} else if (cut_scheme(value, "Basic", &rest)) {
		if (is_basic_token(a, rest, user))
			return true;
	} else
		reason = "unknown scheme";
	if (reason != NULL)
		tell(a, req, user, reason);
	r->status = 401;
	http_response_header(r, "WWW-Authenticate",
	    "Basic realm=\"bot-operator\", charset=\"UTF-8\"");
	http_response_header(r, "WWW-Authenticate",
	    "Bearer realm=\"bot-operator\"");
	buffer_add_str(&r->body, reason == NULL ?
	    "The token of StatusTokenFile= is needed: send \"Authorization: "
	    "Bearer TOKEN\", or log in with any user name and the token as "
	    "password.\n" :
	    "This is not the token of StatusTokenFile=.\n");
	return false;
}
