/*
 * outbox.h
 *		The worker's side of the outbox: find, claim, settle.
 *
 * Knows no libcurl.  Functions throw; the caller aborts the transaction then,
 * and nothing has been claimed or settled.
 */
#ifndef OSMTALK_OUTBOX_H
#define OSMTALK_OUTBOX_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"

#include "delivery.h"

/* One transaction with the outbox; what is wanted, and what came of it. */
typedef struct OsmtalkTurn
{
	/* wanted */
	dlist_head *settle; /* deliveries whose results are to be recorded */
	bool reload;		/* read the whole outbox, not only what is new */
	bool check_overdue; /* look whether calls are overdue */
	bool check_adopted; /* look whether rows of another database have come */
	bool claim;			/* claim what the scheduler picks */

	/* came */
	dlist_head claimed; /* deliveries to be sent, each with its ticket */
	bool overdue;		/* calls are */
	bool gone;			/* the extension is not the one attached to: nothing was done */

	/* what the scheduler picked, while the turn lasts */
	OsmtalkTicket **tickets;
	int ntickets;
} OsmtalkTurn;

/* Settles, looks, claims, and commits durably. */
extern void osmtalk_outbox_turn(OsmtalkTurn *turn, OsmtalkScheduler *scheduler);

/* To be called, once the transaction is aborted, when a turn has thrown. */
extern void osmtalk_outbox_turn_failed(OsmtalkTurn *turn, OsmtalkScheduler *scheduler);

extern void osmtalk_delivery_free(OsmtalkDelivery *d);

#endif
