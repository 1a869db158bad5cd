/*
 * objects.h
 *		Which version of the extension's objects the database has, whose they
 *		are, and whether this library can serve them.
 */
#ifndef OSMTALK_OBJECTS_H
#define OSMTALK_OBJECTS_H

#include "postgres.h"

typedef enum OsmtalkFit
{
	OSMTALK_FIT,
	OSMTALK_TOO_OLD,	   /* ALTER EXTENSION osmtalk UPDATE has not been run */
	OSMTALK_TOO_NEW,	   /* the server was not restarted before it was */
	OSMTALK_OF_A_SUPERUSER /* their owner is one, as whom a worker does nothing */
} OsmtalkFit;

typedef struct OsmtalkObjects
{
	Oid extension; /* InvalidOid: there are none */
	OsmtalkFit fit;
	char version[32]; /* perhaps cut off, for messages */
} OsmtalkObjects;

/* As they are now, in the current transaction. */
extern OsmtalkObjects osmtalk_find_objects(void);

/* The role that owns the schema, whatever its name; InvalidOid if there is no schema. */
extern Oid osmtalk_objects_owner(void);

/*
 * Notes for worker_status that the objects do not fit, and says so in the log,
 * once; in its own transaction.  Nothing if they fit by now.
 */
extern void osmtalk_report_misfit(int worker);

#endif
