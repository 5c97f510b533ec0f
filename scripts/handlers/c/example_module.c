/*
 * An example module: cc -shared -fPIC -o example.so example_module.c;
 * [Pool example] Module=/.../example.so
 */
#include <stdio.h>
#include <string.h>

#include "bot_module.h"

int
bot_handle(const struct bot_message *m, struct bot_result *r)
{
	if (m->body_len >= 5 && memcmp(m->body, "retry", 5) == 0 &&
	    m->attempt == 1) {
		r->kind = BOT_RETRY;
		r->delay_ms = 50;
		r->error_type = "external_api";
		r->detail = "the mail server said 503";
	} else if (m->body_len >= 4 && memcmp(m->body, "dead", 4) == 0) {
		r->kind = BOT_DEAD;
		r->error_type = "invalid_format";
		r->detail = "nobody wants this";
	} else {
		fprintf(stderr, "hello, %.*s\n", (int)m->body_len,
		    (const char *)m->body);
	}
	return 0;
}
