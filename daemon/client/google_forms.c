#include "client/google_impl.h"

#include "base/clock.h"
#include "base/json.h"
#include "codec/base64.h"
#include "codec/url.h"

/* google-auth, sts.py. */
#define GRANT_EXCHANGE	"urn:ietf:params:oauth:grant-type:token-exchange"
#define TYPE_ACCESS	"urn:ietf:params:oauth:token-type:access_token"

#define JWT_LIFE_S	((uint64_t)3600)	/* the most that Google takes */
#define JWT_SKEW_S	((uint64_t)10)		/* our clock may be ahead */

void
google_body_wipe(struct buffer *b)
{
	if (b->data != NULL)
		secret_wipe(b->data, b->size);
	buffer_done(b);
}

static void
add_field(struct buffer *b, const char *name, struct slice value)
{
	if (buffer_len(b) != 0)
		buffer_add_char(b, '&');
	buffer_add_str(b, name);
	buffer_add_char(b, '=');
	url_add_component(b, value);
}

static size_t
length_of(const struct secret *s)
{
	return s != NULL ? secret_bytes(s).n : 0;
}

/* Room for all of a, and one more, when each byte needs an escape. */
static void
start_body(struct buffer *b, const struct google_account *a, size_t more)
{
	size_t n = more + length_of(a->client_secret) +
	    length_of(a->refresh_token);

	google_body_wipe(b);
	buffer_init(b);
	(void)buffer_reserve(b, 3 * n + 256 * KIB);
}

void
google_form_refresh(struct buffer *b, const struct google_account *a)
{
	start_body(b, a, 0);
	add_field(b, "grant_type", SLICE("refresh_token"));
	add_field(b, "client_id", slice_of(a->client_id));
	add_field(b, "client_secret", secret_bytes(a->client_secret));
	add_field(b, "refresh_token", secret_bytes(a->refresh_token));
}

void
google_form_exchange(struct buffer *b, const struct google_account *a,
    const struct secret *subject)
{
	_cleanup_buffer_ struct buffer options = BUFFER_INIT;

	start_body(b, a, length_of(subject));
	add_field(b, "grant_type", SLICE(GRANT_EXCHANGE));
	add_field(b, "audience", slice_of(a->audience));
	add_field(b, "scope", SLICE(GOOGLE_SCOPE_CLOUD));
	add_field(b, "requested_token_type", SLICE(TYPE_ACCESS));
	add_field(b, "subject_token_type", slice_of(a->subject_type));
	add_field(b, "subject_token", secret_bytes(subject));
	if (a->user_project == NULL || a->client_id != NULL)
		return;
	/* Who has no client of his own says whose quota it is. */
	buffer_add_str(&options, "{\"userProject\":");
	json_add_string(&options, slice_of(a->user_project));
	buffer_add_char(&options, '}');
	add_field(b, "options", buffer_slice(&options));
}

void
google_form_become(struct buffer *b, const struct google_account *a)
{
	start_body(b, a, 0);
	buffer_add_str(b, "{\"scope\":[\"" GOOGLE_SCOPE_PUBSUB "\",\""
	    GOOGLE_SCOPE_MONITORING "\"]");
	if (a->delegates != NULL) {
		buffer_add_str(b, ",\"delegates\":");
		buffer_add_str(b, a->delegates);
	}
	buffer_printf(b, ",\"lifetime\":\"%us\"}", a->lifetime_s);
}

void
google_add_basic(struct buffer *out, const struct google_account *a)
{
	struct buffer b = BUFFER_INIT;

	(void)buffer_reserve(&b, strlen(a->client_id) + 1 +
	    length_of(a->client_secret));
	buffer_add_str(&b, a->client_id);
	buffer_add_char(&b, ':');
	if (a->client_secret != NULL)
		buffer_add_slice(&b, secret_bytes(a->client_secret));
	buffer_add_str(out, "Authorization: Basic ");
	base64_add(out, buffer_slice(&b));
	buffer_add_str(out, "\r\n");
	google_body_wipe(&b);
}

struct secret *
google_sign(const struct google_account *a, const char *audience,
    uint64_t *ret_life_us, struct error *err)
{
	uint64_t from = clock_realtime_us() / USEC_PER_SEC;
	_cleanup_buffer_ struct buffer claims = BUFFER_INIT;

	from -= MIN(from, JWT_SKEW_S);
	buffer_add_str(&claims, "{\"iss\":");
	json_add_string(&claims, slice_of(a->email));
	buffer_add_str(&claims, ",\"sub\":");
	json_add_string(&claims, slice_of(a->email));
	buffer_add_str(&claims, ",\"aud\":");
	json_add_string(&claims, slice_of(audience));
	buffer_printf(&claims, ",\"iat\":%llu,\"exp\":%llu}",
	    (unsigned long long)from,
	    (unsigned long long)(from + JWT_LIFE_S));
	*ret_life_us = (JWT_LIFE_S - JWT_SKEW_S) * USEC_PER_SEC;
	return jwt_sign(a->key, a->key_id, buffer_slice(&claims), err);
}
