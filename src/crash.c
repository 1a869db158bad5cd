/*
 * crash.c
 *		Tells a worker that died of its own from one that was killed.
 *
 * An event that makes its worker crash must be found out; a worker that is
 * killed from outside, by whatever signal, must condemn none, nor must one
 * whose server cannot go on (PANIC, as when there is no room for its log).
 * Shared memory does not survive any of them, so a crash leaves a file, beside
 * those of the statistics.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "crash.h"
#include "settings.h"

static char crash_file[MAXPGPATH];

static emit_log_hook_type next_emit_log = NULL;
static volatile sig_atomic_t panicked = false;

/* By kill() or the like, which the kernel's own signals for faults are not, by another process. */
static bool
is_from_outside(const siginfo_t *info)
{
	return (info->si_code <= 0 || info->si_code == SI_USER) && info->si_pid != getpid();
}

/* What is said before the server's abort(). */
static void
note_panic(ErrorData *error)
{
	if (error->elevel >= PANIC)
		panicked = true;
	if (next_emit_log != NULL)
		next_emit_log(error);
}

/* Async-signal-safe. */
static void
note_crash(int signo, siginfo_t *info, void *context)
{
	int fd = is_from_outside(info) || panicked ? -1 : open(crash_file, O_CREAT | O_WRONLY, 0600);

	if (fd >= 0)
		close(fd);
	signal(signo, SIG_DFL);
	raise(signo);
}

static void
name_file(char *file, Oid database, int worker)
{
	snprintf(file, MAXPGPATH, "pg_stat/osmtalk_crashed.%u.%d", database, worker);
}

void
osmtalk_crash_watch(Oid database, int worker)
{
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
	/* a stack that has overflown has no room for the handler */
	static char stack_space[64 * 1024];
	stack_t stack = {.ss_sp = stack_space, .ss_size = sizeof(stack_space)};
	struct sigaction action = {0};

	name_file(crash_file, database, worker);
	next_emit_log = emit_log_hook;
	emit_log_hook = note_panic;
	action.sa_sigaction = note_crash;
	action.sa_flags = SA_SIGINFO;
	if (sigaltstack(&stack, NULL) == 0)
		action.sa_flags |= SA_ONSTACK;
	sigemptyset(&action.sa_mask);
	for (int i = 0; i < lengthof(fatal); i++)
		(void) sigaction(fatal[i], &action, NULL);
}

uint64
osmtalk_crashes_noted(Oid database)
{
	uint64 crashed = 0;

	for (int i = 0; i < OSMTALK_MOST_WORKERS; i++)
	{
		char file[MAXPGPATH];

		name_file(file, database, i);
		if (access(file, F_OK) == 0)
			crashed |= UINT64CONST(1) << i;
	}
	return crashed;
}

void
osmtalk_crash_forget(void)
{
	(void) unlink(crash_file);
}
