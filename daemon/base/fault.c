#include "base/fault.h"

#ifdef BOT_FAULT_INJECTION

#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/alloc.h"

struct point {
	char *name;
	unsigned nth;
	unsigned passed;
	enum { ACT_ERROR = 1, ACT_KILL, ACT_DELAY } action;
};

static struct point *points;
static size_t npoints;
static bool loaded;

void
fault_arm(const char *spec)
{
	_cleanup_free_ char *copy = NULL;
	char *at, *item;

	for (size_t i = 0; i < npoints; i++)
		free(points[i].name);
	free(points);
	points = NULL;
	npoints = 0;
	loaded = true;
	if (spec == NULL)
		return;
	at = copy = xstrdup(spec);
	while ((item = strsep(&at, ",")) != NULL) {
		char name[64], action[16];
		struct point p = { 0 };

		if (*item == '\0')
			continue;
		if (sscanf(item, "%63[^=]=%u:%15s", name, &p.nth, action) != 3)
			BUG("BOT_FAULTS: \"%s\" is not NAME=N:ACTION", item);
		if (strcmp(action, "error") == 0)
			p.action = ACT_ERROR;
		else if (strcmp(action, "kill") == 0)
			p.action = ACT_KILL;
		else if (strcmp(action, "delay") == 0)
			p.action = ACT_DELAY;
		else
			BUG("BOT_FAULTS: unknown action \"%s\"", action);
		p.name = xstrdup(name);
		points = xreallocarray(points, npoints + 1, sizeof(*points));
		points[npoints++] = p;
	}
}

bool
fault_hit(const char *name)
{
	if (!loaded)
		fault_arm(getenv("BOT_FAULTS"));
	for (size_t i = 0; i < npoints; i++) {
		struct point *p = &points[i];

		if (strcmp(p->name, name) != 0)
			continue;
		p->passed++;
		if (p->nth != 0 && p->passed != p->nth)
			continue;
		switch (p->action) {
		case ACT_ERROR:
			return true;
		case ACT_KILL:
			(void)kill(getpid(), SIGKILL);
			break;
		case ACT_DELAY:
			(void)nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
			break;
		}
	}
	return false;
}

#else

typedef int fault_unused;	/* ISO C forbids an empty unit */

#endif
