/*
 * crash.c
 *		Tells a worker that died of its own from one that was killed.
 *
 * An event that makes its worker crash must be found out; a worker that is
 * killed from outside must condemn none.  Shared memory does not survive
 * either, so a crash leaves a file, beside those of the statistics.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "crash.h"

static char crash_file[MAXPGPATH];

/* Async-signal-safe. */
static void
note_crash(int signo)
{
	int fd = open(crash_file, O_CREAT | O_WRONLY, 0600);

	if (fd >= 0)
		close(fd);
	signal(signo, SIG_DFL);
	raise(signo);
}

void
osmtalk_crash_watch(Oid database)
{
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

	snprintf(crash_file, sizeof(crash_file), "pg_stat/osmtalk_crashed.%u", database);
	for (int i = 0; i < lengthof(fatal); i++)
		signal(fatal[i], note_crash);
}

bool
osmtalk_crash_noted(void)
{
	return access(crash_file, F_OK) == 0;
}

void
osmtalk_crash_forget(void)
{
	(void) unlink(crash_file);
}
