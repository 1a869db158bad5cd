/*
 * ownership.h
 *		Which process delivers a database's events, and how it takes over and
 *		leaves.
 *
 * Endpoints are divided into slices by their hash.  A session advisory lock
 * makes a process the owner of a slice, or of all; it dies with the process,
 * so nothing is ever stuck.  Functions throw.
 */
#ifndef OSMTALK_OWNERSHIP_H
#define OSMTALK_OWNERSHIP_H

#include "postgres.h"

#include "lib/ilist.h"

#include "delivery.h"

/* worker deaths with an event in flight after which it is sent alone, and set aside */
#define OSMTALK_SUSPECT_DEATHS 2
#define OSMTALK_CONDEMNED_DEATHS 5

typedef enum OsmtalkPresence
{
	OSMTALK_PRESENT,
	OSMTALK_REPLACED, /* dropped, and created again */
	OSMTALK_ABSENT,
	OSMTALK_UNFIT /* there, and cannot be served: see objects.h */
} OsmtalkPresence;

/*
 * Attaches to the database's extension, as the worker of that number, from 0;
 * crashed: bits, which workers died of their own before.  Only if it is
 * present then.
 */
extern OsmtalkPresence osmtalk_attach(int number, uint64 crashed);

/* This database's identity, see current_origin(); and the worker's number; once attached. */
extern Datum osmtalk_origin(void);
extern int osmtalk_worker_number(void);

/* Whether this process delivers the events of endpoints of that hash. */
extern bool osmtalk_owns(int64 endpoint_hash);

/* One event more, or less, of such an endpoint is claimed and not settled. */
extern void osmtalk_keep_slice(int64 endpoint_hash);
extern void osmtalk_release_slice(int64 endpoint_hash);

/*
 * Brings what this process owns in line with its share as one of so many
 * workers: ceases to deliver what is another's, lets go of it once nothing of
 * it is claimed, and takes what others have left, as soon as they have; what
 * they had claimed waits again.  In its own transaction, if any is needed.
 * True if it delivers other endpoints than before: the outbox is to be read
 * again.  *settled: nothing is left to be taken or let go of.
 */
extern bool osmtalk_take_share(int workers, bool *settled);

/* What became of the extension that this process attached to; in its own transaction. */
extern OsmtalkPresence osmtalk_outbox_presence(void);

/*
 * Keeps the extension from being dropped during the current transaction.
 * False if it is not the one this process attached to, or has been updated to
 * a version that cannot be served, or if !wait and a lock would have to be
 * waited for.
 */
extern bool osmtalk_lock_tables(bool wait);

/*
 * Before the process ends: settles, and makes what is in flight wait again; probes that are not made are returned.
 * Waits for no lock and no standby; false if it could not be done.
 */
extern bool osmtalk_leave(dlist_head *results, OsmtalkDelivery **in_flight, int n);

#endif
