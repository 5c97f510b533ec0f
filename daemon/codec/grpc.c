#include "codec/grpc.h"

#include <stdio.h>
#include <strings.h>

#include "codec/base64.h"

/* ---- status codes ---- */

static const struct {
	const char *name;
	enum error_class class;
} codes[] = {
	[GRPC_OK] = { "OK", ERROR_NONE },
	[GRPC_CANCELLED] = { "CANCELLED", ERROR_REJECTED },
	[GRPC_UNKNOWN] = { "UNKNOWN", ERROR_TRANSIENT },
	[GRPC_INVALID_ARGUMENT] = { "INVALID_ARGUMENT", ERROR_REJECTED },
	[GRPC_DEADLINE_EXCEEDED] = { "DEADLINE_EXCEEDED", ERROR_TRANSIENT },
	[GRPC_NOT_FOUND] = { "NOT_FOUND", ERROR_REJECTED },
	[GRPC_ALREADY_EXISTS] = { "ALREADY_EXISTS", ERROR_REJECTED },
	[GRPC_PERMISSION_DENIED] = { "PERMISSION_DENIED", ERROR_AUTH },
	[GRPC_RESOURCE_EXHAUSTED] = { "RESOURCE_EXHAUSTED", ERROR_THROTTLED },
	[GRPC_FAILED_PRECONDITION] = { "FAILED_PRECONDITION", ERROR_REJECTED },
	[GRPC_ABORTED] = { "ABORTED", ERROR_TRANSIENT },
	[GRPC_OUT_OF_RANGE] = { "OUT_OF_RANGE", ERROR_REJECTED },
	[GRPC_UNIMPLEMENTED] = { "UNIMPLEMENTED", ERROR_REJECTED },
	[GRPC_INTERNAL] = { "INTERNAL", ERROR_TRANSIENT },
	[GRPC_UNAVAILABLE] = { "UNAVAILABLE", ERROR_TRANSIENT },
	[GRPC_DATA_LOSS] = { "DATA_LOSS", ERROR_REJECTED },
	[GRPC_UNAUTHENTICATED] = { "UNAUTHENTICATED", ERROR_AUTH },
};

const char *
grpc_code_name(unsigned code)
{
	return codes[code < ARRAY_SIZE(codes) ? code : GRPC_UNKNOWN].name;
}

enum error_class
grpc_code_class(unsigned code)
{
	return codes[code < ARRAY_SIZE(codes) ? code : GRPC_UNKNOWN].class;
}

unsigned
grpc_code_parse(struct slice s)
{
	uint64_t code;

	if (slice_to_u64(s, &code) < 0 || code >= ARRAY_SIZE(codes))
		return GRPC_UNKNOWN;
	return (unsigned)code;
}

/* doc/http-grpc-status-mapping.md of the specification. */
unsigned
grpc_code_of_http(unsigned status)
{
	switch (status) {
	case 400:
		return GRPC_INTERNAL;
	case 401:
		return GRPC_UNAUTHENTICATED;
	case 403:
		return GRPC_PERMISSION_DENIED;
	case 404:
		return GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_UNKNOWN;
	}
}

/* "HTTP2 Transport Mapping: Errors" of the specification. */
unsigned
grpc_code_of_rst(uint32_t error)
{
	switch (error) {
	case 0x0:	/* NO_ERROR */
	case 0x1:	/* PROTOCOL_ERROR */
	case 0x2:	/* INTERNAL_ERROR */
	case 0x3:	/* FLOW_CONTROL_ERROR */
	case 0x4:	/* SETTINGS_TIMEOUT */
	case 0x6:	/* FRAME_SIZE_ERROR */
	case 0x9:	/* COMPRESSION_ERROR */
	case 0xa:	/* CONNECT_ERROR */
		return GRPC_INTERNAL;
	case 0x7:	/* REFUSED_STREAM */
		return GRPC_UNAVAILABLE;
	case 0x8:	/* CANCEL */
		return GRPC_CANCELLED;
	case 0xb:	/* ENHANCE_YOUR_CALM */
		return GRPC_RESOURCE_EXHAUSTED;
	case 0xc:	/* INADEQUATE_SECURITY */
		return GRPC_PERMISSION_DENIED;
	default:
		return GRPC_UNKNOWN;
	}
}

/* ---- messages ---- */

ssize_t
grpc_message(struct slice in, size_t max, struct slice *ret,
    struct error *err)
{
	const uint8_t *p = (const uint8_t *)in.p;
	size_t n;

	if (in.n == 0)
		return 0;
	if (p[0] > 1) {
		error_set(err, ERROR_PROTOCOL, "malformed_message",
		    "a message begins with 0x%02x, which is no flag of gRPC's",
		    p[0]);
		return -EPROTO;
	}
	if (p[0] == 1) {
		error_set(err, ERROR_REJECTED, "compressed", "a message is "
		    "compressed, though only identity was offered");
		return -EPROTO;
	}
	if (in.n < GRPC_PREFIX)
		return 0;
	n = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
	if (n > max) {
		error_set(err, ERROR_REJECTED, "message_too_large",
		    "a message has %zu bytes, more than %zu", n, max);
		return -EPROTO;
	}
	if (in.n - GRPC_PREFIX < n)
		return 0;
	*ret = (struct slice){ in.p + GRPC_PREFIX, n };
	return (ssize_t)(GRPC_PREFIX + n);
}

void
grpc_message_add(struct buffer *b, struct slice m)
{
	char *p = buffer_reserve(b, GRPC_PREFIX + m.n);

	p[0] = 0;
	p[1] = (char)(m.n >> 24);
	p[2] = (char)(m.n >> 16);
	p[3] = (char)(m.n >> 8);
	p[4] = (char)m.n;
	if (m.n != 0)
		memcpy(p + GRPC_PREFIX, m.p, m.n);
	buffer_commit(b, GRPC_PREFIX + m.n);
}

/* ---- headers ---- */

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Cut in the middle of a character (RFC 3629, 3), it loses its beginning too. */
static size_t
whole_characters(const char *s, size_t n)
{
	size_t lead = n, need;
	unsigned char c;

	while (lead != 0 && n - lead < 4 &&
	    ((unsigned char)s[lead - 1] & 0xc0) == 0x80)
		lead--;
	if (lead == 0)
		return n;
	c = (unsigned char)s[lead - 1];
	need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
	return n - (lead - 1) < need ? lead - 1 : n;
}

const char *
grpc_percent_decode(struct slice in, char *out, size_t size)
{
	size_t n = 0, i;

	for (i = 0; i < in.n && n + 1 < size; i++) {
		char c = in.p[i];

		if (c == '%' && in.n - i > 2 && hex(in.p[i + 1]) >= 0 &&
		    hex(in.p[i + 2]) >= 0) {
			c = (char)(hex(in.p[i + 1]) << 4 | hex(in.p[i + 2]));
			i += 2;
		}
		out[n++] = (unsigned char)c < ' ' || c == 0x7f ? ' ' : c;
	}
	if (i < in.n)
		n = whole_characters(out, n);
	out[n] = '\0';
	return out;
}

int
grpc_bin_decode(struct buffer *out, struct slice in)
{
	_cleanup_buffer_ struct buffer padded = BUFFER_INIT;

	if (in.n % 4 == 0)
		return base64_decode(in, out);
	buffer_add_slice(&padded, in);
	while (buffer_len(&padded) % 4 != 0)
		buffer_add_char(&padded, '=');
	return base64_decode(buffer_slice(&padded), out);
}

const char *
grpc_timeout(uint64_t us, char out[GRPC_TIMEOUT_BYTES])
{
	static const struct {
		uint64_t us;
		char unit;
	} units[] = { { 1, 'u' }, { 1000, 'm' }, { 1000000, 'S' },
		{ 60000000, 'M' }, { 3600000000, 'H' } };
	uint64_t n = 99999999;
	char unit = 'H';

	if (us == 0) {
		n = 1;
		unit = 'n';
	}
	for (size_t i = 0; us != 0 && i < ARRAY_SIZE(units); i++) {
		uint64_t up = us / units[i].us + (us % units[i].us != 0);

		if (up <= 99999999) {
			n = up;
			unit = units[i].unit;
			break;
		}
	}
	snprintf(out, GRPC_TIMEOUT_BYTES, "%u%c", (unsigned)n, unit);
	return out;
}

bool
grpc_content_type_ok(struct slice s)
{
	static const char want[] = "application/grpc";
	size_t n = sizeof(want) - 1;

	return s.n >= n && strncasecmp(s.p, want, n) == 0 &&
	    (s.n == n || s.p[n] == '+' || s.p[n] == ';' || s.p[n] == ' ');
}
