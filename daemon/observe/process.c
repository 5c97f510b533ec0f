/*
 * What the operator's own process uses.
 */
#include <math.h>
#include <stdio.h>
#include <sys/resource.h>

#include "observe/watch.h"

static double
seconds(const struct timeval *tv)
{
	return (double)tv->tv_sec + (double)tv->tv_usec / 1e6;
}

/* proc(5): the second number of statm, in pages. */
static double
rss_bytes(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f == NULL)
		return (double)NAN;
	if (fscanf(f, "%*u %lu", &pages) != 1)
		pages = 0;
	(void)fclose(f);
	return pages == 0 ? (double)NAN :
	    (double)pages * (double)sysconf(_SC_PAGESIZE);
}

void
watch_process(const struct loop *loop, struct watch_process *ret)
{
	struct loop_stats s;
	struct rlimit files;
	struct rusage ru;

	loop_get_stats(loop, &s);
	ret->rss_bytes = rss_bytes();
	ret->cpu_seconds = getrusage(RUSAGE_SELF, &ru) == 0 ?
	    seconds(&ru.ru_utime) + seconds(&ru.ru_stime) : (double)NAN;
	ret->descriptors = (double)s.ios;
	ret->descriptors_max = getrlimit(RLIMIT_NOFILE, &files) == 0 ?
	    (double)files.rlim_cur : (double)NAN;
}
