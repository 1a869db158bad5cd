/*
 * claim.h
 *		Takes events out of the outbox to be sent.
 *
 * Functions throw.  A claim is durable when its transaction has committed;
 * nothing may be sent before.
 */
#ifndef OSMTALK_CLAIM_H
#define OSMTALK_CLAIM_H

#include "postgres.h"

#include "lib/ilist.h"

#include "delivery.h"

/*
 * Claims what the scheduler picks, in the current transaction, which has
 * looked (look.h); all_found: that look is complete.
 */
extern void osmtalk_claim(OsmtalkScheduler *scheduler, bool all_found);

/* That transaction has committed: what was claimed is ready. */
extern void osmtalk_claim_committed(OsmtalkScheduler *scheduler);

/* It was lost, and the claims with it. */
extern void osmtalk_claim_failed(OsmtalkScheduler *scheduler);

#endif
