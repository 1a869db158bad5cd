/*
 * outbox.h
 *		One transaction of the worker with the outbox: settle, look, claim.
 *
 * Knows no libcurl.  Throws; the caller aborts the transaction then, and
 * nothing has been claimed or settled.
 */
#ifndef OSMTALK_OUTBOX_H
#define OSMTALK_OUTBOX_H

#include "postgres.h"

#include "lib/ilist.h"

#include "delivery.h"
#include "look.h"

typedef struct OsmtalkTurn
{
	/* wanted */
	dlist_head *results; /* deliveries to be settled */
	OsmtalkLook look;
	bool claim; /* what the scheduler picks */

	/* came of it */
	bool gone;	  /* the extension is not the one attached to: nothing was done */
	int nresults; /* that are left: their rows are locked by others */
} OsmtalkTurn;

/*
 * Settles, looks, claims, and commits durably.  What was settled is freed,
 * what was claimed is ready at the scheduler.
 */
extern void osmtalk_outbox_turn(OsmtalkTurn *turn, OsmtalkScheduler *scheduler);

/*
 * To be called, once the transaction is aborted, when a turn has thrown an
 * error of that code.  True if the next turn will avoid it.
 */
extern bool osmtalk_outbox_turn_failed(OsmtalkScheduler *scheduler, int sqlerrcode);

#endif
