/*
 * outbox.c
 *		The worker's side of the outbox: find, claim, settle.
 *
 * One short transaction does all three.  So a claim is durable before a byte
 * is sent; if results cannot be recorded, nothing new is claimed; and a
 * commit serves a whole batch in both directions.
 *
 * New rows are found by transaction: those that a transaction wrote which the
 * last look could not see, because it began later or was still in progress.
 * Each row is looked at once, whatever a long transaction elsewhere keeps
 * alive, and a row that commits late is not missed.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "catalog/pg_type.h"
#include "outbox.h"
#include "ownership.h"
#include "request.h"
#include "settle.h"
#include "statements.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define LOOK_BATCH 2000

/* a row that another session has locked is tried again after this long */
#define LOCKED_PAUSE_US 1000000

#define PENDING_ROW                                                                          \
	"SELECT o.id, o.due_at, o.worker_deaths, t.url"                                          \
	"  FROM osmtalk.outbox o"                                                                \
	"  LEFT JOIN osmtalk.events e"                                                           \
	"    ON e.slot OPERATOR(pg_catalog.=) o.slot AND e.id OPERATOR(pg_catalog.=) o.event_id" \
	"  LEFT JOIN LATERAL osmtalk.delivery_target(e.type, e.org_id, e.campaign_id) t ON true" \
	" WHERE o.origin OPERATOR(pg_catalog.=) $1 AND o.claimed_at IS NULL"

/* everything; in the order it was enqueued */
static OsmtalkStatement look_all = {
	"osmtalk: read the outbox",
	PENDING_ROW " ORDER BY o.id",
	1,
	{TEXTOID}};

/*
 * What came since the snapshot $2.  A row without an id
 * says that calls are overdue, or rows not adopted, so that an idle worker runs
 * one statement per poll.
 */
static OsmtalkStatement look_new = {
	"osmtalk: look for new events",
	PENDING_ROW " AND o.xid OPERATOR(pg_catalog.>=) pg_catalog.pg_snapshot_xmax($2)"
				" UNION ALL " PENDING_ROW " AND o.xid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT pg_catalog.pg_snapshot_xip($2)))"
				" UNION ALL "
				"SELECT NULL, NULL, NULL, 'overdue' WHERE $3 AND osmtalk.has_overdue_calls()"
				" UNION ALL "
				"SELECT NULL, NULL, NULL, 'not adopted'"
				"  FROM osmtalk.not_adopted n"
				" WHERE $4 AND (n.events OPERATOR(pg_catalog.>) 0 OR n.calls OPERATOR(pg_catalog.>) 0)",
	4,
	{TEXTOID, PG_SNAPSHOTOID, BOOLOID, BOOLOID}};

static OsmtalkStatement claim = {
	"osmtalk: claim events",
	"WITH due AS MATERIALIZED ("
	"	SELECT o.id FROM osmtalk.outbox o"
	"	 WHERE o.id OPERATOR(pg_catalog.=) ANY ($1) AND o.origin OPERATOR(pg_catalog.=) $2"
	"	   AND o.claimed_at IS NULL AND o.due_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()"
	"	   FOR UPDATE SKIP LOCKED),"
	" claimed AS ("
	"	UPDATE osmtalk.outbox o"
	"	   SET attempts = o.attempts OPERATOR(pg_catalog.+) 1, claimed_at = pg_catalog.clock_timestamp()"
	"	  FROM due WHERE o.id OPERATOR(pg_catalog.=) due.id"
	"	RETURNING o.id, o.event_id, o.attempts, o.slot)"
	" SELECT c.id, c.event_id, c.attempts, t.url, t.secret, e.body, c.slot"
	"   FROM claimed c"
	"   LEFT JOIN osmtalk.events e ON e.slot OPERATOR(pg_catalog.=) c.slot AND e.id OPERATOR(pg_catalog.=) c.event_id"
	"   LEFT JOIN LATERAL osmtalk.delivery_target(e.type, e.org_id, e.campaign_id) t ON true",
	2,
	{INT8ARRAYOID, TEXTOID}};

/*
 * Of those claimed: where the event really is, if it is not in the slot that
 * the row names, because it was moved at that moment, or the row made by hand.
 */
static OsmtalkStatement correct_slots = {
	"osmtalk: look for events in other slots",
	"UPDATE osmtalk.outbox o SET slot = e.slot FROM osmtalk.events e"
	" WHERE o.id OPERATOR(pg_catalog.=) ANY ($1) AND e.id OPERATOR(pg_catalog.=) o.event_id"
	"   AND e.slot OPERATOR(pg_catalog.<>) o.slot",
	1,
	{INT8ARRAYOID}};

static OsmtalkStatement claimed_again = {
	"osmtalk: look for events in other slots",
	"SELECT o.id, o.event_id, o.attempts, t.url, t.secret, e.body, o.slot"
	"  FROM osmtalk.outbox o"
	"  LEFT JOIN osmtalk.events e ON e.slot OPERATOR(pg_catalog.=) o.slot AND e.id OPERATOR(pg_catalog.=) o.event_id"
	"  LEFT JOIN LATERAL osmtalk.delivery_target(e.type, e.org_id, e.campaign_id) t ON true"
	" WHERE o.id OPERATOR(pg_catalog.=) ANY ($1)",
	1,
	{INT8ARRAYOID}};

/* of those that could not be claimed: which are still there */
static OsmtalkStatement still_there = {
	"osmtalk: look at locked events",
	"SELECT o.id, o.due_at, o.worker_deaths FROM osmtalk.outbox o"
	" WHERE o.id OPERATOR(pg_catalog.=) ANY ($1) AND o.origin OPERATOR(pg_catalog.=) $2 AND o.claimed_at IS NULL",
	2,
	{INT8ARRAYOID, TEXTOID}};

static Datum last_snapshot = (Datum) 0; /* of the last look, in TopMemoryContext */
static MemoryContext delivery_context = NULL;

/* ---- look ---- */

/*
 * The endpoint of a URL.  Most rows in a batch have the URL of the row before.
 */
static OsmtalkEndpoint *
endpoint_of(OsmtalkScheduler *scheduler, const char *url)
{
	static char last_url[2048 + 1] = "";
	static OsmtalkEndpoint *last = NULL;
	char name[512];

	if (last != NULL && strcmp(url, last_url) == 0)
		return last;
	/* what is no URL fails by itself and needs no endpoint of its own */
	if (!osmtalk_request_origin(url, name, sizeof(name)))
		strlcpy(name, "none", sizeof(name));
	last = osmtalk_scheduler_endpoint(scheduler, name);
	if (last == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	strlcpy(last_url, url, sizeof(last_url));
	return last;
}

static void
enqueue(OsmtalkScheduler *scheduler, OsmtalkEndpoint *endpoint, int64 id, TimestampTz due_at, int16 deaths)
{
	if (!osmtalk_scheduler_add(scheduler, endpoint, id, due_at, GetCurrentTimestamp(), deaths >= OSMTALK_SUSPECT_DEATHS))
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
}

static void
look(OsmtalkTurn *turn, OsmtalkScheduler *scheduler)
{
	bool all = turn->reload || last_snapshot == (Datum) 0;
	bool not_adopted = all;
	Datum values[4];
	Datum snapshot;
	Portal portal;
	MemoryContext old;

	/* the look and the note of how far it saw are of one snapshot */
	PushActiveSnapshot(GetTransactionSnapshot());
	snapshot = OidFunctionCall0(F_PG_CURRENT_SNAPSHOT);
	values[0] = osmtalk_origin();
	values[1] = last_snapshot;
	values[2] = BoolGetDatum(turn->check_overdue);
	values[3] = BoolGetDatum(turn->check_adopted);
	if (all)
		osmtalk_scheduler_clear(scheduler);

	portal = SPI_cursor_open(NULL, osmtalk_plan(all ? &look_all : &look_new), values, NULL, true);
	do
	{
		SPI_cursor_fetch(portal, true, LOOK_BATCH);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			HeapTuple tuple = SPI_tuptable->vals[i];
			bool isnull;
			int64 id = DatumGetInt64(osmtalk_column(tuple, 1, &isnull));
			char *url;

			url = osmtalk_text_column(tuple, 4, CurrentMemoryContext, NULL);
			if (isnull)
			{
				if (strcmp(url, "overdue") == 0)
					turn->overdue = true;
				else
					not_adopted = true;
				continue;
			}
			enqueue(scheduler, endpoint_of(scheduler, url ? url : ""), id,
					DatumGetTimestampTz(osmtalk_column(tuple, 2, &isnull)),
					DatumGetInt16(osmtalk_column(tuple, 3, &isnull)));
			if (url != NULL)
				pfree(url);
		}
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed == LOOK_BATCH);
	SPI_cursor_close(portal);

	old = MemoryContextSwitchTo(TopMemoryContext);
	snapshot = PointerGetDatum(PG_DETOAST_DATUM_COPY(snapshot));
	MemoryContextSwitchTo(old);
	if (last_snapshot != (Datum) 0)
		pfree(DatumGetPointer(last_snapshot));
	last_snapshot = snapshot;
	PopActiveSnapshot();

	if (not_adopted)
		osmtalk_report_not_adopted();
}

/* ---- claim ---- */

static int
compare_tickets(const void *a, const void *b)
{
	int64 left = (*(OsmtalkTicket *const *) a)->id;
	int64 right = (*(OsmtalkTicket *const *) b)->id;

	return left < right ? -1 : left > right;
}

static OsmtalkTicket *
find_ticket(OsmtalkTurn *turn, int64 id)
{
	OsmtalkTicket wanted = {.id = id};
	OsmtalkTicket *key = &wanted;
	OsmtalkTicket **found = bsearch(&key, turn->tickets, turn->ntickets, sizeof(*turn->tickets), compare_tickets);

	if (found == NULL)
		elog(ERROR, "claimed an event that was not picked");
	return *found;
}

static OsmtalkDelivery *
make_delivery(HeapTuple tuple, OsmtalkTicket *ticket)
{
	OsmtalkDelivery *d = MemoryContextAllocZero(delivery_context, sizeof(OsmtalkDelivery));
	bool isnull;

	d->ticket = ticket;
	d->outbox_id = ticket->id;
	d->event_id = osmtalk_text_column(tuple, 2, delivery_context, NULL);
	d->attempt = DatumGetInt32(osmtalk_column(tuple, 3, &isnull));
	d->url = osmtalk_text_column(tuple, 4, delivery_context, NULL);
	d->secret = osmtalk_text_column(tuple, 5, delivery_context, NULL);
	d->body = osmtalk_text_column(tuple, 6, delivery_context, &d->body_len);
	d->slot = DatumGetInt16(osmtalk_column(tuple, 7, &isnull));
	return d;
}

void
osmtalk_delivery_free(OsmtalkDelivery *d)
{
	if (d->secret != NULL)
	{
		OPENSSL_cleanse(d->secret, strlen(d->secret));
		pfree(d->secret);
	}
	if (d->event_id != NULL)
		pfree(d->event_id);
	if (d->url != NULL)
		pfree(d->url);
	if (d->body != NULL)
		pfree(d->body);
	pfree(d);
}

/*
 * Ends the tickets of rows that were not claimed: what another session has
 * locked comes again a little later, what is gone is forgotten.
 */
static void
put_back_unclaimed(OsmtalkTurn *turn, OsmtalkScheduler *scheduler)
{
	int64 *ids = palloc(turn->ntickets * sizeof(int64));
	int n = 0;
	TimestampTz soon = GetCurrentTimestamp() + LOCKED_PAUSE_US;
	Datum values[2];

	for (int i = 0; i < turn->ntickets; i++)
		if (!turn->tickets[i]->claimed)
			ids[n++] = turn->tickets[i]->id;
	if (n == 0)
		return;

	values[0] = PointerGetDatum(osmtalk_int8_array(ids, n));
	values[1] = osmtalk_origin();
	osmtalk_execute(&still_there, values);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		bool isnull;
		int64 id = DatumGetInt64(osmtalk_column(tuple, 1, &isnull));
		TimestampTz due_at = DatumGetTimestampTz(osmtalk_column(tuple, 2, &isnull));

		enqueue(scheduler, find_ticket(turn, id)->endpoint, id, Max(due_at, soon),
				DatumGetInt16(osmtalk_column(tuple, 3, &isnull)));
	}
	/* last, because an error above ends all tickets */
	for (int i = 0; i < turn->ntickets; i++)
		if (!turn->tickets[i]->claimed)
		{
			osmtalk_scheduler_done(scheduler, turn->tickets[i], OSMTALK_NOT_SENT);
			turn->tickets[i--] = turn->tickets[--turn->ntickets];
		}
}

/*
 * Makes deliveries of the rows that a statement has returned; without an event
 * in its slot, notes the row in missing, if given, instead.
 */
static int
take_claimed(OsmtalkTurn *turn, OsmtalkScheduler *scheduler, int64 *missing)
{
	int nmissing = 0;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		bool isnull;
		int64 id = DatumGetInt64(osmtalk_column(tuple, 1, &isnull));
		OsmtalkTicket *ticket;
		OsmtalkDelivery *d;

		(void) osmtalk_column(tuple, 6, &isnull);
		if (isnull && missing != NULL)
		{
			missing[nmissing++] = id;
			continue;
		}
		ticket = find_ticket(turn, id);
		d = make_delivery(tuple, ticket);
		ticket->claimed = true;
		/* the URL may have changed since the row was found */
		if (d->url != NULL)
			osmtalk_scheduler_move(scheduler, ticket, endpoint_of(scheduler, d->url));
		dlist_push_tail(&turn->claimed, &d->node);
	}
	return nmissing;
}

static void
claim_picked(OsmtalkTurn *turn, OsmtalkScheduler *scheduler)
{
	int capacity = 64;
	OsmtalkTicket *ticket;
	int64 *ids;
	int64 *missing;
	int nmissing;
	Datum values[2];

	turn->tickets = MemoryContextAlloc(delivery_context, capacity * sizeof(*turn->tickets));
	while ((ticket = osmtalk_scheduler_pick(scheduler, GetCurrentTimestamp())) != NULL)
	{
		if (turn->ntickets == capacity)
			turn->tickets = repalloc(turn->tickets, (capacity *= 2) * sizeof(*turn->tickets));
		turn->tickets[turn->ntickets++] = ticket;
	}
	if (turn->ntickets == 0)
		return;
	qsort(turn->tickets, turn->ntickets, sizeof(*turn->tickets), compare_tickets);
	ids = palloc(turn->ntickets * sizeof(int64));
	for (int i = 0; i < turn->ntickets; i++)
		ids[i] = turn->tickets[i]->id;

	osmtalk_make_durable();
	values[0] = PointerGetDatum(osmtalk_int8_array(ids, turn->ntickets));
	values[1] = osmtalk_origin();
	osmtalk_execute(&claim, values);
	missing = palloc(turn->ntickets * sizeof(int64));
	nmissing = take_claimed(turn, scheduler, missing);
	if (nmissing > 0)
	{
		values[0] = PointerGetDatum(osmtalk_int8_array(missing, nmissing));
		osmtalk_execute(&correct_slots, values);
		osmtalk_execute(&claimed_again, values);
		(void) take_claimed(turn, scheduler, NULL);
	}
	put_back_unclaimed(turn, scheduler);
}

/*
 * The transaction is lost, and with it the claims.
 */
void
osmtalk_outbox_turn_failed(OsmtalkTurn *turn, OsmtalkScheduler *scheduler)
{
	while (!dlist_is_empty(&turn->claimed))
		osmtalk_delivery_free(dlist_container(OsmtalkDelivery, node, dlist_pop_head_node(&turn->claimed)));
	for (int i = 0; i < turn->ntickets; i++)
		osmtalk_scheduler_done(scheduler, turn->tickets[i], OSMTALK_NOT_SENT);
	turn->ntickets = 0;
	if (turn->tickets != NULL)
		pfree(turn->tickets);
	turn->tickets = NULL;
}

/* ---- the turn ---- */

void
osmtalk_outbox_turn(OsmtalkTurn *turn, OsmtalkScheduler *scheduler)
{
	if (delivery_context == NULL)
		delivery_context = AllocSetContextCreate(TopMemoryContext, "osmtalk deliveries", ALLOCSET_DEFAULT_SIZES);
	dlist_init(&turn->claimed);
	turn->tickets = NULL;
	turn->ntickets = 0;
	turn->overdue = false;
	turn->gone = false;

	osmtalk_begin();
	if (!osmtalk_lock_tables(true))
	{
		turn->gone = true;
		osmtalk_commit();
		return;
	}
	if (!dlist_is_empty(turn->settle))
	{
		osmtalk_make_durable();
		osmtalk_settle(turn->settle, true);
	}
	look(turn, scheduler);
	if (turn->claim)
		claim_picked(turn, scheduler);
	osmtalk_commit();
	if (turn->tickets != NULL)
		pfree(turn->tickets);
	turn->tickets = NULL;
}
