/*
 * What a server answers in headers, and how a call ended by it ("Responses"
 * and "Errors" in the gRPC over HTTP/2 specification).
 */
#include "client/grpc_impl.h"

void
grpc_answer_init(struct grpc_answer *a)
{
	*a = (struct grpc_answer){ 0 };
	buffer_init(&a->details);
}

void
grpc_answer_done(struct grpc_answer *a)
{
	buffer_done(&a->details);
}

void
grpc_answer_begin(struct grpc_answer *a)
{
	if (a->http_status >= 100 && a->http_status < 200)
		a->http_status = 0;	/* it was an interim one */
	a->have_status = false;
	a->code = GRPC_OK;
	a->message[0] = '\0';
	buffer_clear(&a->details);
}

int
grpc_answer_header(struct grpc_answer *a, struct slice name,
    struct slice value)
{
	uint64_t n;

	a->header_bytes += name.n + value.n + 32;	/* RFC 9113, 10.5.1 */
	if (a->header_bytes > GRPC_HEADERS_MAX)
		return -EMSGSIZE;
	if (slice_is(name, ":status")) {
		if (slice_to_u64(value, &n) == 0 && n < 1000)
			a->http_status = (unsigned)n;
	} else if (slice_is(name, "content-type")) {
		a->content_type_ok = grpc_content_type_ok(value);
	} else if (slice_is(name, "grpc-status")) {
		a->have_status = true;
		a->code = grpc_code_parse(value);
	} else if (slice_is(name, "grpc-message")) {
		(void)grpc_percent_decode(value, a->message,
		    sizeof(a->message));
	} else if (slice_is(name, "grpc-status-details-bin")) {
		buffer_clear(&a->details);
		/* What cannot be read is only not there. */
		if (value.n <= GRPC_DETAILS_MAX)
			(void)grpc_bin_decode(&a->details, value);
	}
	return 0;
}

bool
grpc_answer_refused(const struct grpc_answer *a)
{
	return a->http_status != 200 || !a->content_type_ok;
}

void
grpc_answer_end(const struct grpc_answer *a, bool partial,
    struct grpc_end *ret)
{
	*ret = (struct grpc_end){ 0 };
	if (a->have_status) {
		ret->code = a->code;
		if (a->code == GRPC_OK && partial) {
			ret->code = GRPC_INTERNAL;
			error_set(&ret->err, ERROR_PROTOCOL,
			    "malformed_message", "the answer ended in the "
			    "middle of a message");
		}
		return;
	}
	if (a->http_status != 200) {
		ret->code = grpc_code_of_http(a->http_status);
		error_set(&ret->err, grpc_code_class(ret->code),
		    grpc_code_name(ret->code),
		    "an answer of HTTP status %u, without a gRPC status",
		    a->http_status);
		return;
	}
	ret->code = GRPC_UNKNOWN;
	error_set(&ret->err, ERROR_TRANSIENT, "missing_status",
	    a->content_type_ok ? "the answer ended without a gRPC status" :
	    "the answer is not gRPC's (its content type)");
}

void
grpc_end_of_rst(uint32_t error, struct grpc_end *ret)
{
	*ret = (struct grpc_end){ .code = grpc_code_of_rst(error),
		.unseen = error == NGHTTP2_REFUSED_STREAM };
	error_set(&ret->err, grpc_code_class(ret->code),
	    grpc_code_name(ret->code), "the server reset the call: %s",
	    nghttp2_http2_strerror(error));
}
