/*
 * claimed.h
 *		What this process has claimed and not settled yet.
 */
#ifndef OSMTALK_CLAIMED_H
#define OSMTALK_CLAIMED_H

#include "postgres.h"

#include "lib/ilist.h"

#include "delivery.h"

/*
 * A delivery of that row of the outbox, added to the list; what belongs to it
 * is allocated in that context.
 */
extern OsmtalkDelivery *osmtalk_delivery_create(int64 outbox_id, int64 endpoint_hash, dlist_head *list);
extern MemoryContext osmtalk_delivery_context(void);

/* Notes the deliveries of the list as claimed, in the current transaction.  Throws. */
extern void osmtalk_note_claims(dlist_head *list);

/* Whether this process has claimed that row of the outbox and not settled it. */
extern bool osmtalk_is_claimed(int64 outbox_id);

/* The delivery is over, and settled or to be claimed again. */
extern void osmtalk_delivery_free(OsmtalkDelivery *d);

/*
 * Rows of claims of which nothing is left, to be removed; and that a
 * transaction that did so has committed.
 */
extern Datum osmtalk_finished_claims(int *n);
extern void osmtalk_finished_claims_removed(int n);

#endif
