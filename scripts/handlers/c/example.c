/*
 * An example handler: cc -o example example.c;  [Pool example] Exec=/.../example
 *
 * A body that begins with "retry", "dead" or "crash" shows the other ways out.
 */
#include "bot_handler.h"

static int
begins(const struct bot_handler_message *m, const char *word)
{
	return m->body_len >= strlen(word) &&
	    memcmp(m->body, word, strlen(word)) == 0;
}

static void
handle(struct bot_handler_message *m)
{
	if (begins(m, "retry") && m->attempt == 1)
		bot_retry(m, 50, "external_api", "the mail server said 503");
	else if (begins(m, "dead"))
		bot_dead(m, "invalid_format", "nobody wants this");
	else if (begins(m, "crash"))
		abort();
	else
		printf("hello, %.*s\n", (int)m->body_len, m->body);
}

int
main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	return bot_handler_run(handle);
}
