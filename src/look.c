/*
 * look.c
 *		What is in the outbox, for the scheduler.
 *
 * New rows are found by transaction: those that a transaction wrote which the
 * last look could not see, because it began later or was still in progress.
 * So each row is looked at once, whatever a long transaction elsewhere keeps
 * alive, and a row that commits late is not missed.  Of many rows that one
 * transaction wrote for one endpoint the first says enough, and a look that
 * finds very many goes on in the next transaction: nobody waits for it.
 *
 * At the start all that is wanted is which endpoints have rows.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "claimed.h"
#include "endpoint.h"
#include "look.h"
#include "ownership.h"
#include "statements.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define LOOK_BATCH 1000
#define LOOK_MOST 4000 /* in one transaction */

/* the first row of each endpoint, from one to the next by the index, however many rows there are */
static OsmtalkStatement look_all = {
	"osmtalk: read the outbox",
	"WITH RECURSIVE e AS ("
	"	(SELECT o.endpoint_hash, o.id FROM osmtalk.outbox o ORDER BY o.endpoint_hash, o.id LIMIT 1)"
	"	UNION ALL"
	"	SELECT n.* FROM e, LATERAL (SELECT o.endpoint_hash, o.id FROM osmtalk.outbox o"
	"			 WHERE o.endpoint_hash OPERATOR(pg_catalog.>) e.endpoint_hash ORDER BY o.endpoint_hash, o.id LIMIT 1) n)"
	" SELECT e.endpoint_hash, e.id FROM e",
	0};

#define LOOK_NEW                                                                      \
	"SELECT o.xid, o.endpoint_hash, o.id FROM osmtalk.outbox o"                       \
	" WHERE ROW(o.xid, o.endpoint_hash, o.id) OPERATOR(pg_catalog.>) ROW($1, $2, $3)" \
	"	AND o.xid OPERATOR(pg_catalog.<=) $4"                                           \
	" ORDER BY o.xid, o.endpoint_hash, o.id LIMIT $5"

static OsmtalkStatement look_new = {
	"osmtalk: look for new events",
	LOOK_NEW,
	5,
	{XID8OID, INT8OID, INT8OID, XID8OID, INT8OID}};

/*
 * From time to time one that does more, so that an idle worker runs one
 * statement per poll: a row without a transaction says that calls are overdue,
 * rows are not adopted, sending is paused, events that wait can go, or a redelivery is
 * under way.
 */
static OsmtalkStatement look_and_check = {
	"osmtalk: look for new events",
	"(" LOOK_NEW ")"
	" UNION ALL "
	"SELECT NULL, NULL, 1 WHERE $6 AND osmtalk.has_overdue_calls()"
	" UNION ALL "
	"SELECT NULL, NULL, 2 FROM osmtalk.not_adopted n"
	" WHERE $7 AND (n.events OPERATOR(pg_catalog.>) 0 OR n.calls OPERATOR(pg_catalog.>) 0)"
	" UNION ALL "
	"SELECT NULL, NULL, 3 FROM osmtalk.paused p WHERE $8"
	" UNION ALL "
	"SELECT NULL, NULL, 4 WHERE $9 AND osmtalk.has_releasable()"
	" UNION ALL "
	"SELECT NULL, NULL, 5 WHERE $6 AND osmtalk.has_redeliveries()",
	9,
	{XID8OID, INT8OID, INT8OID, XID8OID, INT8OID, BOOLOID, BOOLOID, BOOLOID, BOOLOID}};

/* transactions from first to last, whose rows are to be looked at */
typedef struct Range
{
	uint64 first;
	uint64 last;
} Range;

/* what the last look could not see */
typedef struct Unseen
{
	uint64 xmax; /* transactions from here on */
	int nxip;	 /* and these, of before */
	uint64 *xip;
} Unseen;

static Unseen unseen; /* in TopMemoryContext */

/* the look that is under way: ranges, and how far the first of them is done */
static Range *ranges = NULL;
static int nranges = 0;
static int current = 0;
static Range position; /* first: the transaction; then */
static int64 position_hash;
static int64 position_id;

static int64
int64_column(HeapTuple tuple, int number)
{
	bool isnull;

	return DatumGetInt64(osmtalk_column(tuple, number, &isnull));
}

static OsmtalkEndpoint *
endpoint(OsmtalkScheduler *scheduler, int64 hash, int64 cursor)
{
	OsmtalkEndpoint *e = osmtalk_scheduler_endpoint(scheduler, hash, cursor);

	if (e == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	return e;
}

/* ---- snapshots ---- */

/* A transaction id with its epoch, given the next that will be. */
static uint64
widen(TransactionId xid, FullTransactionId next)
{
	uint32 epoch = EpochFromFullTransactionId(next);

	return ((uint64) (xid > XidFromFullTransactionId(next) ? epoch - 1 : epoch)) << 32 | xid;
}

static bool
in_progress(const Unseen *u, uint64 xid)
{
	for (int i = 0; i < u->nxip; i++)
		if (u->xip[i] == xid)
			return true;
	return xid >= u->xmax;
}

/* In the current memory context. */
static Unseen
unseen_by(Snapshot snapshot)
{
	FullTransactionId next = ReadNextFullTransactionId();
	Unseen u;

	u.xmax = widen(snapshot->xmax, next);
	u.nxip = (int) snapshot->xcnt;
	u.xip = palloc(Max(u.nxip, 1) * sizeof(uint64));
	for (int i = 0; i < u.nxip; i++)
		u.xip[i] = widen(snapshot->xip[i], next);
	return u;
}

static void
go_to(int range)
{
	current = range;
	if (range < nranges)
	{
		position = ranges[range];
		position_hash = position_id = PG_INT64_MIN;
	}
}

/*
 * Begins a look: what this snapshot sees and the last did not.
 */
static void
begin_look(const Unseen *now)
{
	if (ranges != NULL)
		pfree(ranges);
	ranges = NULL;
	ranges = MemoryContextAlloc(TopMemoryContext, (unseen.nxip + 1) * sizeof(Range));
	nranges = 0;
	for (int i = 0; i < unseen.nxip; i++)
		if (!in_progress(now, unseen.xip[i]))
			ranges[nranges++] = (Range){unseen.xip[i], unseen.xip[i]};
	if (now->xmax > unseen.xmax)
		ranges[nranges++] = (Range){unseen.xmax, now->xmax - 1};
	go_to(0);
}

/* ---- the look ---- */

static void
look_at_all(OsmtalkLook *look, OsmtalkScheduler *scheduler)
{
	osmtalk_scheduler_clear(scheduler);
	osmtalk_select(&look_all, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		int64 hash = int64_column(SPI_tuptable->vals[i], 1);
		int64 before = int64_column(SPI_tuptable->vals[i], 2) - 1;

		if (osmtalk_owns(hash) && hash != OSMTALK_WAITING_QUEUE)
			osmtalk_scheduler_found_more(scheduler, endpoint(scheduler, hash, before), before);
	}
	SPI_freetuptable(SPI_tuptable);
}

static bool
wants_check(const OsmtalkLook *look)
{
	return look->check_overdue || look->check_adopted || look->check_paused || look->check_waiting;
}

/* Goes on with the look; returns how many rows of the outbox were read. */
static uint64
look_on(OsmtalkLook *look, OsmtalkScheduler *scheduler)
{
	Datum values[9];
	uint64 n = 0;
	bool isnull;

	values[0] = UInt64GetDatum(position.first);
	values[1] = Int64GetDatum(position_hash);
	values[2] = Int64GetDatum(position_id);
	values[3] = UInt64GetDatum(position.last);
	values[4] = Int64GetDatum(LOOK_BATCH);
	values[5] = BoolGetDatum(look->check_overdue);
	values[6] = BoolGetDatum(look->check_adopted);
	values[7] = BoolGetDatum(look->check_paused);
	values[8] = BoolGetDatum(look->check_waiting);
	osmtalk_select(wants_check(look) ? &look_and_check : &look_new, values);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		OsmtalkEndpoint *e;
		int64 id = int64_column(tuple, 3);

		(void) osmtalk_column(tuple, 1, &isnull);
		if (isnull)
		{
			look->overdue |= id == 1;
			look->not_adopted |= id == 2;
			look->paused |= id == 3;
			look->releasable |= id == 4;
			look->redeliveries |= id == 5;
			continue;
		}
		n++;
		position.first = (uint64) int64_column(tuple, 1);
		position_hash = int64_column(tuple, 2);
		position_id = id;
		if (!osmtalk_owns(position_hash) || osmtalk_is_claimed(id))
			continue;
		if (position_hash == OSMTALK_WAITING_QUEUE)
		{
			look->waiting = true;
			continue;
		}
		e = endpoint(scheduler, position_hash, id - 1);
		if (n == LOOK_BATCH && id > e->cursor)
		{
			/* the rest of this transaction's for this endpoint comes after it */
			osmtalk_scheduler_found_more(scheduler, e, e->cursor);
			position_id = PG_INT64_MAX;
		}
		else if (!osmtalk_scheduler_found(scheduler, e, id))
			ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	}
	SPI_freetuptable(SPI_tuptable);
	look->check_overdue = look->check_adopted = look->check_paused = look->check_waiting = false; /* once is enough */
	if (n < LOOK_BATCH)
		go_to(current + 1);
	return n;
}

void
osmtalk_look(OsmtalkLook *look, OsmtalkScheduler *scheduler)
{
	uint64 n = 0;

	if (look->reload || current >= nranges)
	{
		Unseen now = unseen_by(GetActiveSnapshot());

		nranges = current = 0;
		if (look->reload)
			look_at_all(look, scheduler);
		else
			begin_look(&now);
		if (unseen.xip != NULL)
			pfree(unseen.xip);
		unseen.xip = NULL;
		now.xip = memcpy(MemoryContextAlloc(TopMemoryContext, Max(now.nxip, 1) * sizeof(uint64)),
						 now.xip, now.nxip * sizeof(uint64));
		unseen = now;
	}
	if (current >= nranges && wants_check(look))
	{
		position = (Range){1, 0}; /* nothing but the checks */
		(void) look_on(look, scheduler);
	}
	while (current < nranges && n < LOOK_MOST)
		n += look_on(look, scheduler);
	look->more = current < nranges;
}
