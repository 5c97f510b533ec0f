/*
 * The handler that does nothing, for measuring all the rest; and, for tests,
 * what the first byte of the body asks for.
 */
#include <stdlib.h>
#include <time.h>

#include "bot_module.h"

int
bot_handle(const struct bot_message *m, struct bot_result *r)
{
	char what = m->body_len != 0 ? *(const char *)m->body : '\0';

	switch (what) {
	case '!':		/* crash */
		abort();
	case 'r':
		r->kind = BOT_RETRY;
		r->delay_ms = 1500;
		r->error_type = "rate_limited";
		r->detail = "asked to wait";
		break;
	case 'd':
		r->kind = BOT_DEAD;
		r->error_type = "invalid_format";
		break;
	case 'e':
		return -1;
	case 's': {		/* slow: 20 ms */
		struct timespec t = { 0, 20 * 1000 * 1000 };

		(void)nanosleep(&t, NULL);
		break;
	}
	default:
		break;
	}
	return 0;
}
