/*
 * tally.h
 *		What came of attempts, by endpoint, until the database is told.
 */
#ifndef OSMTALK_TALLY_H
#define OSMTALK_TALLY_H

#include "delivery.h"

/* Counts an attempt that has been settled.  Does not throw: one that there is no memory for is not counted. */
extern void osmtalk_tally(const OsmtalkDelivery *d);

/*
 * Tells the database, in a transaction of its own, if it is time: about once a
 * second, or at once when a rule may follow from it; in any case if that is
 * DT_NOEND.  What concerns a row that another session has locked is told later:
 * nothing waits for it.  An error is said in the log, and it is tried again.
 */
extern void osmtalk_flush_tallies(TimestampTz now);

#endif
