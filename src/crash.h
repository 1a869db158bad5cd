/*
 * crash.h
 *		Tells a worker that died of its own from one that was killed.
 */
#ifndef OSMTALK_CRASH_H
#define OSMTALK_CRASH_H

#include "postgres.h"

/* From now on a crash of this process leaves a note for the next worker of the database. */
extern void osmtalk_crash_watch(Oid database);

/* Whether the worker before this one left one; and to be done with it. */
extern bool osmtalk_crash_noted(void);
extern void osmtalk_crash_forget(void);

#endif
