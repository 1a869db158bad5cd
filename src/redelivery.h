/*
 * redelivery.h
 *		Redeliveries of many events: when the worker moves some to the outbox,
 *		and what became of those.
 */
#ifndef OSMTALK_REDELIVERY_H
#define OSMTALK_REDELIVERY_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* ---- in the transaction that settles ---- */

/* What became of the events of each redelivery, in the order of their ids. */
typedef struct OsmtalkRedelivered
{
	int n;
	int capacity;
	int64 *ids;
	int64 *done;
	int64 *failed;
} OsmtalkRedelivered;

/* Notes one, in the current memory context. */
extern void osmtalk_redelivered(OsmtalkRedelivered *counts, int64 redelivery_id, bool delivered);

/* Adds what was noted to the counters, if there is anything.  Throws. */
extern void osmtalk_count_redelivered(const OsmtalkRedelivered *counts);

/* ---- between transactions ---- */

/* A look has found that there is a redelivery to go on with. */
extern void osmtalk_redelivery_found(TimestampTz now);

/*
 * Moves events to the outbox, in a transaction of its own, if it is time for
 * it; if that is not allowed now, not until a look has found them again.
 * Should it fail, the log says so, and it is tried again later.
 */
extern void osmtalk_feed_redeliveries(TimestampTz now, bool allowed);

/* When the next step is due; DT_NOEND: there is none. */
extern TimestampTz osmtalk_redelivery_next(TimestampTz now);

#endif
