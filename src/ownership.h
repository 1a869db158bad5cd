/*
 * ownership.h
 *		Which process delivers a database's events, and how it takes over and
 *		leaves.
 *
 * A session advisory lock makes a process the owner of the outbox; it dies
 * with the process, so nothing is ever stuck.  Functions throw.
 */
#ifndef OSMTALK_OWNERSHIP_H
#define OSMTALK_OWNERSHIP_H

#include "delivery.h"

/* worker deaths with an event in flight after which it is sent alone, and set aside */
#define OSMTALK_SUSPECT_DEATHS 2
#define OSMTALK_CONDEMNED_DEATHS 5

/* This database's identity, see current_origin(); once attached. */
extern Datum osmtalk_origin(void);

/*
 * Makes this process the owner of the database's outbox, and its claims of an
 * earlier worker waiting again; crashed: that worker died of its own.  False
 * if the database does not have the extension, or (*owned_by_other) if
 * another process owns the outbox.
 */
extern bool osmtalk_outbox_attach(bool crashed, bool *owned_by_other);

/*
 * Releases what the worker before this one had claimed in rows that another
 * session had locked; in its own transaction.  True if there were any.
 */
extern bool osmtalk_outbox_release_rest(void);

typedef enum OsmtalkPresence
{
	OSMTALK_PRESENT,
	OSMTALK_REPLACED, /* dropped, and created again */
	OSMTALK_ABSENT
} OsmtalkPresence;

/* What became of the extension that this process attached to; in its own transaction. */
extern OsmtalkPresence osmtalk_outbox_presence(void);

/*
 * Keeps the extension from being dropped during the current transaction.
 * False if it is not the one this process attached to, or if !wait and a lock
 * would have to be waited for.
 */
extern bool osmtalk_lock_tables(bool wait);

/*
 * Before the process ends: settles, and makes what is in flight wait again.
 * Waits for no lock and no standby; false if it could not be done.
 */
extern bool osmtalk_outbox_leave(dlist_head *settle);

typedef enum OsmtalkExpired
{
	OSMTALK_EXPIRED_ALL,
	OSMTALK_EXPIRED_SOME, /* there may be more */
	OSMTALK_EXPIRED_NONE  /* there are some, and none could be decided */
} OsmtalkExpired;

/* Decides calls whose time is up; in its own transaction. */
extern OsmtalkExpired osmtalk_outbox_expire_calls(void);

/* Says in the log, when it changes, what waits for adopt(); in the current transaction. */
extern void osmtalk_report_not_adopted(void);

#endif
