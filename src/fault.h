/*
 * fault.h
 *		Faults on purpose, for tests of what becomes of them.
 *
 * Only where the sources are compiled with -DOSMTALK_FAULTS are there the
 * settings that cause them (settings.c); no installation is compiled so.
 */
#ifndef OSMTALK_FAULT_H
#define OSMTALK_FAULT_H

#ifdef OSMTALK_FAULTS

#include "settings.h"

/* The worker dies when it is about to send that event: of its own, or because the server cannot go on. */
static inline void
osmtalk_fault_at_event(const char *event_id)
{
	if (strcmp(event_id, osmtalk_fault_event) == 0)
		abort();
	if (strcmp(event_id, osmtalk_fault_panic) == 0)
		elog(PANIC, "fault at event \"%s\"", event_id);
}

/* A statement of the worker's that contains that text fails. */
static inline void
osmtalk_fault_at_statement(const char *sql)
{
	if (osmtalk_fault_statement[0] != '\0' && strstr(sql, osmtalk_fault_statement) != NULL)
		ereport(ERROR, errmsg("fault at \"%s\"", osmtalk_fault_statement));
}

/*
 * The nth step, from when that was set, of what is done inside the
 * application's statement fails: a step of these sources, or a statement of one
 * of our functions in PL/pgSQL (fault.c).
 */
static inline void
osmtalk_fault_at_step(const char *what)
{
	if (osmtalk_fault_step > 0 && --osmtalk_fault_step == 0)
		ereport(ERROR, errmsg("fault at step \"%s\"", what));
}

extern void osmtalk_fault_watch_functions(void);

#else

#define osmtalk_fault_at_step(what) ((void) 0)
#define osmtalk_fault_at_event(event_id) ((void) 0)
#define osmtalk_fault_at_statement(sql) ((void) 0)

#endif

#endif
