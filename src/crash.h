/*
 * crash.h
 *		Tells a worker that died of its own from one that was killed.
 */
#ifndef OSMTALK_CRASH_H
#define OSMTALK_CRASH_H

#include "postgres.h"

/* From now on a crash of this process leaves a note for the next workers of the database. */
extern void osmtalk_crash_watch(Oid database, int worker);

/* Which workers of the database left one, a bit for each; and to be done with this one's. */
extern uint64 osmtalk_crashes_noted(Oid database);
extern void osmtalk_crash_forget(void);

#endif
