/*
 * resolver.c
 *		How many threads look names up.
 *
 * Before libcurl 8.20 each lookup has a thread of its own, which ends with it.
 * Since then threads come from a pool, two for a name, one for each family of
 * addresses, and stay for two seconds when there is nothing to do: what is seen
 * in the system are those that work and those that wait.  So lookups are
 * counted, too; the smaller number is how many work.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "resolver.h"

#define THREADS_OF_ONE 2

/* while so many look a name up, no other begins but for endpoints that answered last time */
#define MOST_THREADS 128

static int lookups = 0;	  /* of requests under way */
static int abandoned = 0; /* threads, at most, whose requests are over */

void
osmtalk_resolver_start(CURLM *multi, int most)
{
#if LIBCURL_VERSION_NUM >= 0x081400
	/* where all of them look up names that hang, lookups of others wait; libcurl's own limit is 20 */
	(void) curl_multi_setopt(multi, CURLMOPT_RESOLVE_THREADS_MAX, (long) (MOST_THREADS + THREADS_OF_ONE * most));
#endif
}

/* Threads but this one; 0 where that cannot be told. */
static int
threads(void)
{
	struct stat task;

	/* a directory has a link for itself, one for its name, and here one for each thread */
	return stat("/proc/self/task", &task) == 0 ? (int) task.st_nlink - 3 : 0;
}

bool
osmtalk_resolver_is_busy(void)
{
	int there = threads();

	/* nobody says when one of them ends, but none is there that is not seen */
	abandoned = Min(abandoned, there);
	return Min(there, THREADS_OF_ONE * lookups + abandoned) >= MOST_THREADS;
}

void
osmtalk_resolver_begun(void)
{
	lookups++;
}

void
osmtalk_resolver_ended(bool goes_on)
{
	lookups--;
	if (goes_on)
		abandoned += THREADS_OF_ONE;
}
