#define PCRE2_CODE_UNIT_WIDTH	8

#include "guard/pattern.h"

#include <pcre2.h>
#include <time.h>

#include "base/alloc.h"

#define PATTERN_MAX	4096u		/* bytes of the expression */
#define JIT_STACK_MIN	(32 * KIB)
#define JIT_STACK_MAX	(1 * MIB)
#define HEAP_KIB	4096u		/* of the interpreter's, for one match */
/* Places of the body that are tried between two looks at the clock. */
#define PLACES		64u

struct pattern {
	pcre2_code *code;
	pcre2_match_data *data;
	pcre2_match_context *context;
	pcre2_jit_stack *stack;		/* NULL: no machine code */
	bool anchored;
};

struct pattern *
pattern_new(const char *text, struct error *err)
{
	struct pattern *p;
	PCRE2_SIZE at = 0;
	uint32_t options = 0;
	int code = 0;

	if (strlen(text) > PATTERN_MAX) {
		error_set(err, ERROR_REJECTED, "bad_pattern", "longer than %u "
		    "bytes", PATTERN_MAX);
		return NULL;
	}
	p = new0(struct pattern);
	p->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
	    PCRE2_NEVER_UTF | PCRE2_NEVER_UCP | PCRE2_USE_OFFSET_LIMIT,
	    &code, &at, NULL);
	if (p->code == NULL) {
		PCRE2_UCHAR why[160];

		(void)pcre2_get_error_message(code, why, sizeof(why));
		error_set(err, ERROR_REJECTED, "bad_pattern", "at byte %zu: %s",
		    (size_t)at, (const char *)why);
		free(p);
		return NULL;
	}
	p->data = pcre2_match_data_create(1, NULL);
	p->context = pcre2_match_context_create(NULL);
	if (p->data == NULL || p->context == NULL)
		BUG("no memory for a pattern");
	(void)pcre2_pattern_info(p->code, PCRE2_INFO_ALLOPTIONS, &options);
	p->anchored = (options & PCRE2_ANCHORED) != 0;
	(void)pcre2_set_heap_limit(p->context, HEAP_KIB);
	if (pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0)
		p->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX,
		    NULL);
	if (p->stack != NULL)
		pcre2_jit_stack_assign(p->context, NULL, p->stack);
	return p;
}

void
pattern_free(struct pattern *p)
{
	if (p == NULL)
		return;
	pcre2_jit_stack_free(p->stack);
	pcre2_match_context_free(p->context);
	pcre2_match_data_free(p->data);
	pcre2_code_free(p->code);
	free(p);
}

bool
pattern_is_fast(const struct pattern *p)
{
	return p->stack != NULL;
}

/* ---- the budget ---- */

/* Of the processor, not of the world: a busy machine makes nobody suspicious,
   and a test's clock stands still. */
static uint64_t
clock_us(clockid_t id)
{
	struct timespec t;

	(void)clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

bool
pattern_turn(struct pattern_budget *b, uint64_t turn)
{
	if (b->turn != turn) {
		b->turn = turn;
		b->used_us = 0;
	}
	return b->used_us < PATTERN_TURN_US;
}

void
pattern_message(struct pattern_budget *b)
{
	b->message_us = 0;
}

/* Since when one search has been going on, by both clocks. */
struct stretch {
	uint64_t wall_us, cpu_us;
};

/* The wall's clock costs no system call, and never shows less. */
static bool
is_over(const struct stretch *s, const struct pattern_budget *b)
{
	uint64_t left = PATTERN_MESSAGE_US - MIN(b->message_us,
	    (uint64_t)PATTERN_MESSAGE_US);

	return clock_us(CLOCK_MONOTONIC) - s->wall_us >= left &&
	    clock_us(CLOCK_THREAD_CPUTIME_ID) - s->cpu_us >= left;
}

static void
charge(const struct stretch *s, struct pattern_budget *b)
{
	uint64_t us = clock_us(CLOCK_THREAD_CPUTIME_ID) - s->cpu_us;

	b->message_us += us;
	b->used_us += us;
}

/* ---- the search ---- */

static enum pattern_answer
search(const struct pattern *p, struct slice body, const struct stretch *s,
    const struct pattern_budget *b)
{
	uint32_t steps = PATTERN_STEPS + (uint32_t)body.n;

	(void)pcre2_set_match_limit(p->context, steps);
	(void)pcre2_set_depth_limit(p->context, steps);
	for (size_t at = 0; at <= body.n; at += PLACES) {
		int r;

		(void)pcre2_set_offset_limit(p->context, at + PLACES - 1);
		r = pcre2_match(p->code, (PCRE2_SPTR)body.p, body.n, at, 0,
		    p->data, p->context);
		if (r >= 0)
			return PATTERN_MET;
		if (r != PCRE2_ERROR_NOMATCH)
			return PATTERN_TOO_MUCH;
		if (p->anchored)
			return PATTERN_ABSENT;
		if (at + PLACES <= body.n && is_over(s, b))
			return PATTERN_TOO_MUCH;
	}
	return PATTERN_ABSENT;
}

enum pattern_answer
pattern_find(const struct pattern *p, struct slice body,
    struct pattern_budget *b)
{
	struct stretch s = { clock_us(CLOCK_MONOTONIC),
	    clock_us(CLOCK_THREAD_CPUTIME_ID) };
	enum pattern_answer answer;

	if (body.p == NULL)
		body = SLICE("");
	body.n = MIN(body.n, (size_t)PATTERN_LOOK_MAX);
	answer = search(p, body, &s, b);
	charge(&s, b);
	if (answer == PATTERN_TOO_MUCH)
		b->too_much++;
	return answer;
}
