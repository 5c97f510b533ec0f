/*
 * fuzz_crowdsec.c - any bytes as an answer with decisions; the first byte says
 * how many are read at a time.
 *
 * Beyond not crashing: in whatever pieces it is read, the same comes out; a
 * refusal has a sentence; what was taken can be put in, looked up and removed,
 * and then nobody is banned.
 */
#include <netinet/in.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "sink/crowdsec_answer.h"

#define KEPT	64u

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static int
read_all(struct crowdsec_answer *a, struct slice text, size_t most,
    struct error *err)
{
	int r;

	crowdsec_answer_begin(a, text, KEPT);
	do {
		r = crowdsec_answer_read(a, most, true, err);
	} while (r > 0);
	BUG_ON(r < 0 && !error_is_set(err));
	BUG_ON(r < 0 && err->text[0] == '\0');
	return r;
}

static void
live_with(struct crowdsec_answer *a)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(0xc0000201u) };
	struct bans *bans = bans_new(KEPT / 2);
	size_t left_out = 0;

	for (size_t i = 0; i < a->nfresh; i++) {
		left_out += !bans_put(bans, a->fresh[i]);
		a->fresh[i] = NULL;
	}
	BUG_ON(bans_total(bans) + left_out > a->nfresh);
	BUG_ON(bans_total(bans) > KEPT / 2);
	BUG_ON(bans_count(bans, BAN_IP) + bans_count(bans, BAN_RANGE) +
	    bans_count(bans, BAN_SENDER) != bans_total(bans));
	(void)bans_sender(bans, SLICE("mallory"));
	(void)bans_address(bans, (struct sockaddr *)&in);
	for (size_t i = 0; i < a->ngone; i++)
		bans_remove(bans, a->gone[i]);
	(void)bans_expire(bans, 5);
	bans_renew(bans);
	while (bans_sweep(bans, 3))
		;
	BUG_ON(bans_total(bans) != 0);
	BUG_ON(bans_address(bans, (struct sockaddr *)&in));
	bans_free(bans);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = ERROR_INIT, other = ERROR_INIT;
	struct crowdsec_answer a, b;
	struct slice text;
	int r;

	if (size == 0)
		return 0;
	clock_set_virtual(USEC_PER_SEC, USEC_PER_SEC);
	text = (struct slice){ (const char *)data + 1, size - 1 };
	r = read_all(&a, text, SIZE_MAX, &err);
	BUG_ON(read_all(&b, text, 1 + data[0] % 8, &other) != r);
	if (r == 0) {
		BUG_ON(a.nfresh != b.nfresh || a.ngone != b.ngone);
		BUG_ON(a.ignored != b.ignored || a.left_out != b.left_out);
		BUG_ON(a.nfresh > KEPT);
		live_with(&a);
	}
	crowdsec_answer_done(&a);
	crowdsec_answer_done(&b);
	return 0;
}
