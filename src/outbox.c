/*
 * outbox.c
 *		One transaction of the worker with the outbox: settle, look, claim.
 *
 * All three in one: so a claim is durable before a byte is sent; if results
 * cannot be recorded, nothing new is claimed; and a commit serves a whole
 * batch in both directions.
 */
#include "postgres.h"

#include "claim.h"
#include "claimed.h"
#include "outbox.h"
#include "ownership.h"
#include "retries.h"
#include "settle.h"
#include "statements.h"
#include "tally.h"
#include "utils/timestamp.h"

/* how long rows are expected to be locked by others, once one was */
#define CAREFUL_MS 10000

static TimestampTz careful_until = 0;

static bool
is_careful(TimestampTz now)
{
	/* a clock that was set back must not prolong it */
	careful_until = Min(careful_until, TimestampTzPlusMilliseconds(now, CAREFUL_MS));
	return careful_until > now;
}

void
osmtalk_outbox_turn(OsmtalkTurn *turn, OsmtalkScheduler *scheduler)
{
	dlist_mutable_iter iter;
	Datum claims;
	int nclaims;

	turn->gone = false;
	turn->nresults = 0;
	osmtalk_begin();
	if (!osmtalk_lock_tables(true))
	{
		turn->gone = true;
		osmtalk_commit();
		return;
	}
	if (!dlist_is_empty(turn->results))
	{
		osmtalk_make_durable();
		osmtalk_settle(turn->results, is_careful(GetCurrentTimestamp()) ? OSMTALK_SETTLE_FREE : OSMTALK_SETTLE_ALL);
	}
	claims = osmtalk_finished_claims(&nclaims);
	if (nclaims > 0)
		osmtalk_settle_claims(claims);
	osmtalk_return_probes();
	/* what is claimed is seen as of the same moment as what is found: so nothing is passed over */
	osmtalk_look(&turn->look, scheduler);
	if (turn->claim && !turn->look.paused)
		osmtalk_claim(scheduler, !turn->look.more);
	osmtalk_commit();

	osmtalk_finished_claims_removed(nclaims);
	osmtalk_probes_returned();
	dlist_foreach_modify(iter, turn->results)
	{
		OsmtalkDelivery *d = dlist_container(OsmtalkDelivery, node, iter.cur);

		if (!d->settled)
		{
			turn->nresults++;
			continue;
		}
		osmtalk_tally(d);
		dlist_delete(&d->node);
		osmtalk_delivery_free(d);
	}
	osmtalk_claim_committed(scheduler);
}

bool
osmtalk_outbox_turn_failed(OsmtalkScheduler *scheduler, int sqlerrcode)
{
	TimestampTz now = GetCurrentTimestamp();
	bool was_careful = is_careful(now);

	osmtalk_claim_failed(scheduler);
	if (sqlerrcode != ERRCODE_UNIQUE_VIOLATION && sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		return false;
	careful_until = TimestampTzPlusMilliseconds(now, CAREFUL_MS);
	return !was_careful;
}
