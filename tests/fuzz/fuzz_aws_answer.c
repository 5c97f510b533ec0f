/*
 * Credentials as JSON and as XML, and times: what is accepted is complete,
 * what is refused leaves nothing behind.
 */
#include "base/alloc.h"
#include "codec/aws_answer.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
check(int r, struct aws_answer *a, const struct error *err)
{
	if (r < 0) {
		BUG_ON(err->class != ERROR_PROTOCOL && err->class != ERROR_AUTH);
		BUG_ON(a->secret_key != NULL || a->token != NULL);
		return;
	}
	BUG_ON(a->access_key[0] == '\0' || a->secret_key == NULL);
	BUG_ON(secret_bytes(a->secret_key).n == 0);
	aws_answer_done(a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = { (const char *)data, size };
	char name[AWS_NAME_BYTES], message[AWS_MESSAGE_BYTES];
	struct error err = ERROR_INIT;
	struct aws_answer a;
	uint64_t us;

	check(aws_answer_from_process(in, &a, &err), &a, &err);
	check(aws_answer_from_endpoint(in, &a, &err), &a, &err);
	check(aws_answer_from_sts(in, &a, &err), &a, &err);
	aws_sts_error(in, name, message);
	BUG_ON(strlen(name) >= sizeof(name) ||
	    strlen(message) >= sizeof(message));
	(void)aws_time_parse(in, &us);
	return 0;
}
