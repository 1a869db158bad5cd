/*
 * launcher.h
 *		The process that starts and restarts the workers.
 */
#ifndef OSMTALK_LAUNCHER_H
#define OSMTALK_LAUNCHER_H

#include "postgres.h"

extern void osmtalk_register_launcher(void);
extern PGDLLEXPORT void osmtalk_launcher_main(Datum arg);

/* A worker's process, from its start on: see load.c. */
extern PGDLLEXPORT void osmtalk_load_worker(Datum arg);

#endif
