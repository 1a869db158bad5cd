/*
 * retries.h
 *		Events that wait: for their next attempt, their time, or their
 *		endpoint.
 */
#ifndef OSMTALK_RETRIES_H
#define OSMTALK_RETRIES_H

#include "delivery.h"

/* events that are due later than this are not held in memory until then */
#define OSMTALK_SOON_MS 10000

/* outbox rows that are to wait, in the current memory context; zeroed at first */
typedef struct OsmtalkWaits
{
	int n;
	int capacity;
	Datum *values;
	bool *isnull;
} OsmtalkWaits;

/* ---- in the current transaction; throw ---- */

/*
 * Has those of the deliveries that failed, and are to be tried again, wait for
 * that, and sets "retried" in them; moves them to the end, and returns how many
 * are before them.
 */
extern int osmtalk_wait_for_retries(OsmtalkDelivery **deliveries, int n);

/* Notes that a row is to wait for that endpoint, or, if it is NULL, until it is due; and has all that were noted wait. */
extern void osmtalk_note_wait(OsmtalkWaits *waits, int64 endpoint_hash, int64 outbox_id, const char *endpoint_id);
extern void osmtalk_put_waiting(const OsmtalkWaits *waits);

/* Whether the event may go to its endpoint, which is probed, as the one that does now. */
extern bool osmtalk_begin_probe(const char *endpoint_id);

/*
 * Has endpoints be as if they had not been asked, whose probes are known not to be made; but for those whose row another
 * session has locked, which are left for the next time.
 */
extern void osmtalk_return_probes(void);

/* ---- in no transaction ---- */

/* That delivery, a probe that was claimed, is not made. */
extern void osmtalk_note_unused_probe(const OsmtalkDelivery *d);

/* A transaction that has returned probes has committed. */
extern void osmtalk_probes_returned(void);

/* ---- in transactions of their own; -1 when one failed, which the log says ---- */

/* Has events go that need not wait any more; returns how many: a look will find them. */
extern int osmtalk_release_waiting(void);

/* Takes note of all rows that are in the queue of those that wait; returns how many were not known. */
extern int osmtalk_find_waiting(void);

/* The clock was set back, by so many microseconds; returns how many events wait less for it. */
extern int osmtalk_follow_clock(int64 set_back_by);

#endif
