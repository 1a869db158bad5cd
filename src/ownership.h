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

/* Whether the extension this process attached to is still there; in its own transaction. */
extern bool osmtalk_outbox_exists(void);

/*
 * Before the process ends: settles, and makes what is in flight wait again.
 * Waits for no lock and no standby; false if it could not be done.
 */
extern bool osmtalk_outbox_leave(dlist_head *settle);

/* Decides calls whose time is up; false if there may be more. */
extern bool osmtalk_outbox_expire_calls(void);

/* Says in the log, when it changes, what waits for adopt(); in the current transaction. */
extern void osmtalk_report_not_adopted(void);

#endif
