/*
 * ownership.c
 *		Which process delivers a database's events, and how it takes over and
 *		leaves.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "objects.h"
#include "ownership.h"
#include "retries.h"
#include "settle.h"
#include "statements.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/*
 * The advisory locks' key: "osmt", and a slice of the outbox, or all of it.
 * One of several workers shares the lock on all and has those on its slices;
 * a worker that is alone has the lock on all to itself and needs no other.
 */
#define LOCK_CLASS 0x6f736d74
#define SLICES 64
#define ALL_SLICES SLICES

/* what is in claims and not settled */
static OsmtalkStatement find_claims = {
	"osmtalk: release claims",
	"SELECT t.endpoint_hash, t.id, t.attempt, c.claimed_at, c.worker"
	"  FROM osmtalk.claims c"
	" CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(c.endpoint_hashes), pg_catalog.unnest(c.outbox_ids),"
	"								pg_catalog.unnest(c.attempts)) t (endpoint_hash, id, attempt)"
	"  JOIN osmtalk.outbox o"
	"	 ON o.endpoint_hash OPERATOR(pg_catalog.=) t.endpoint_hash AND o.id OPERATOR(pg_catalog.=) t.id"
	"	AND o.attempts OPERATOR(pg_catalog.<) t.attempt AND o.origin OPERATOR(pg_catalog.=) $1",
	1,
	{TEXTOID}};

/*
 * Attempts whose result nobody will report: each gets its row, and the event
 * waits to be sent again.  Of a row that another session has locked only the
 * number stays behind, and the next attempt is numbered when it is recorded.
 */
static OsmtalkStatement abandon = {
	"osmtalk: release claims",
	"WITH lost AS MATERIALIZED ("
	"	SELECT o.endpoint_hash, o.id, o.event_id, o.slot, t.attempt, t.started_at, t.died"
	"	  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),"
	"					  pg_catalog.unnest($4), pg_catalog.unnest($5)) t (endpoint_hash, id, attempt, started_at, died)"
	"	  JOIN osmtalk.outbox o"
	"		ON o.endpoint_hash OPERATOR(pg_catalog.=) t.endpoint_hash AND o.id OPERATOR(pg_catalog.=) t.id"
	"	   AND o.attempts OPERATOR(pg_catalog.<) t.attempt),"
	" free AS MATERIALIZED ("
	"	SELECT o.endpoint_hash, o.id, l.attempt, l.died FROM lost l"
	"	  JOIN osmtalk.outbox o"
	"		ON o.endpoint_hash OPERATOR(pg_catalog.=) l.endpoint_hash AND o.id OPERATOR(pg_catalog.=) l.id"
	"	   FOR UPDATE OF o SKIP LOCKED),"
	" released AS ("
	"	UPDATE osmtalk.outbox o"
	"	   SET attempts = f.attempt,"
	"		   worker_deaths = (o.worker_deaths OPERATOR(pg_catalog.+) f.died)::pg_catalog.int2"
	"	  FROM free f"
	"	 WHERE o.endpoint_hash OPERATOR(pg_catalog.=) f.endpoint_hash AND o.id OPERATOR(pg_catalog.=) f.id)"
	" INSERT INTO osmtalk.delivery_attempts (slot, event_id, attempt, url, started_at, error)"
	" SELECT l.slot, l.event_id, l.attempt, t.url, l.started_at,"
	"		 'no result: the worker ended before there was one; the request may have been made, it is made again'"
	"   FROM lost l"
	"   LEFT JOIN osmtalk.events e ON e.slot OPERATOR(pg_catalog.=) l.slot AND e.id OPERATOR(pg_catalog.=) l.event_id"
	"   LEFT JOIN LATERAL osmtalk.delivery_target(e.type, e.org_id, e.campaign_id) t ON true"
	" ON CONFLICT DO NOTHING",
	5,
	{INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID}};

static OsmtalkStatement set_aside = {
	"osmtalk: set events aside",
	"WITH condemned AS ("
	"	DELETE FROM osmtalk.outbox o"
	"	 USING ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) t (endpoint_hash, id)"
	"	 WHERE o.endpoint_hash OPERATOR(pg_catalog.=) t.endpoint_hash AND o.id OPERATOR(pg_catalog.=) t.id"
	"	   AND o.worker_deaths OPERATOR(pg_catalog.>=) $3"
	"	RETURNING o.event_id, o.slot, o.attempts, o.redelivery_id),"
	" counted AS ("
	"	UPDATE osmtalk.redelivery_counters c SET failed = c.failed OPERATOR(pg_catalog.+) n.n"
	"	  FROM (SELECT r.redelivery_id, pg_catalog.count(*) AS n FROM condemned r GROUP BY r.redelivery_id) n"
	"	 WHERE c.redelivery_id OPERATOR(pg_catalog.=) n.redelivery_id)"
	" INSERT INTO osmtalk.delivery_attempts (slot, event_id, attempt, started_at, error)"
	" SELECT c.slot, c.event_id, c.attempts OPERATOR(pg_catalog.+) 1, pg_catalog.now(),"
	"		 'set aside: the worker died each time it sent this event'"
	"   FROM condemned c"
	" ON CONFLICT DO NOTHING",
	3,
	{INT8ARRAYOID, INT8ARRAYOID, INT2OID}};

/* those of which nothing is in flight, whoever made them */
static OsmtalkStatement remove_idle_claims = {
	"osmtalk: release claims",
	"DELETE FROM osmtalk.claims c WHERE NOT EXISTS ("
	"	SELECT FROM ROWS FROM (pg_catalog.unnest(c.endpoint_hashes), pg_catalog.unnest(c.outbox_ids),"
	"						   pg_catalog.unnest(c.attempts)) t (endpoint_hash, id, attempt)"
	"	  JOIN osmtalk.outbox o"
	"		ON o.endpoint_hash OPERATOR(pg_catalog.=) t.endpoint_hash AND o.id OPERATOR(pg_catalog.=) t.id"
	"	   AND o.attempts OPERATOR(pg_catalog.<) t.attempt AND o.origin OPERATOR(pg_catalog.=) $1)",
	1,
	{TEXTOID}};

static OsmtalkStatement remove_own_claims = {
	"osmtalk: release claims",
	"DELETE FROM osmtalk.claims c WHERE c.worker OPERATOR(pg_catalog.=) $1",
	1,
	{INT4OID}};

typedef struct Slice
{
	bool locked; /* by this process, by itself or with all */
	bool owned;	 /* and delivered by it */
	int claimed; /* events of it that are claimed and not settled */
} Slice;

static Slice slices[SLICES];
static LOCKMODE lock_on_all = NoLock;
static int worker_number = 0;
static uint64 workers_crashed = 0; /* bits, those that died of their own before */
static Oid extension_oid = InvalidOid;
static Datum origin; /* in TopMemoryContext */

/* ---- who this is ---- */

static OsmtalkPresence
presence_of(const OsmtalkObjects *objects)
{
	if (!OidIsValid(objects->extension))
		return OSMTALK_ABSENT;
	if (objects->fit != OSMTALK_FIT)
		return OSMTALK_UNFIT;
	return objects->extension == extension_oid ? OSMTALK_PRESENT : OSMTALK_REPLACED;
}

Datum
osmtalk_origin(void)
{
	return origin;
}

int
osmtalk_worker_number(void)
{
	return worker_number;
}

OsmtalkPresence
osmtalk_attach(int number, uint64 crashed)
{
	OsmtalkObjects objects;
	MemoryContext old;

	osmtalk_begin();
	objects = osmtalk_find_objects();
	osmtalk_commit();
	extension_oid = objects.extension;
	old = MemoryContextSwitchTo(TopMemoryContext);
	origin = CStringGetTextDatum(psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId));
	MemoryContextSwitchTo(old);
	worker_number = number;
	workers_crashed = crashed;
	return presence_of(&objects);
}

OsmtalkPresence
osmtalk_outbox_presence(void)
{
	OsmtalkObjects objects;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	objects = osmtalk_find_objects();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return presence_of(&objects);
}

/*
 * Locks the tables that the worker writes, and those that it reads as well if
 * it must not wait.  False if the extension is not the one that this process
 * attached to (dropped, or dropped and created again: then the tables have
 * the same names and other rows), if it has been updated to a version that
 * cannot be served or given to a superuser, or if a lock would have to be waited for.
 */
bool
osmtalk_lock_tables(bool wait)
{
	static const struct
	{
		const char *name;
		LOCKMODE mode;
	} tables[] = {
		{"outbox", RowExclusiveLock},
		{"claims", RowExclusiveLock},
		{"delivery_attempts", RowExclusiveLock},
		{"events", AccessShareLock},
		{"campaigns", AccessShareLock},
		{"org_settings", AccessShareLock},
		{"endpoints", RowExclusiveLock},
	};
	OsmtalkObjects objects;
	Oid schema = get_namespace_oid("osmtalk", true);

	for (int i = 0; i < (wait ? 1 : lengthof(tables)); i++)
	{
		Oid table = OidIsValid(schema) ? get_relname_relid(tables[i].name, schema) : InvalidOid;

		if (!OidIsValid(table))
			return false;
		if (wait)
			LockRelationOid(table, tables[i].mode);
		else if (!ConditionalLockRelationOid(table, tables[i].mode))
			return false;
	}
	objects = osmtalk_find_objects();
	return presence_of(&objects) == OSMTALK_PRESENT;
}

/* ---- slices ---- */

static Slice *
slice_of(int64 endpoint_hash)
{
	return &slices[(uint64) endpoint_hash % SLICES];
}

bool
osmtalk_owns(int64 endpoint_hash)
{
	return slice_of(endpoint_hash)->owned;
}

void
osmtalk_keep_slice(int64 endpoint_hash)
{
	slice_of(endpoint_hash)->claimed++;
}

void
osmtalk_release_slice(int64 endpoint_hash)
{
	slice_of(endpoint_hash)->claimed--;
}

/* Session locks: they die with this process, and not before. */
static bool
lock(int slice, LOCKMODE mode)
{
	LOCKTAG tag;

	/* the last number keeps it out of reach of SQL's advisory lock functions, which use 1 and 2 */
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_CLASS, slice, 3);
	return LockAcquire(&tag, mode, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

static void
unlock(int slice, LOCKMODE mode)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_CLASS, slice, 3);
	(void) LockRelease(&tag, mode, true);
}

/* For the only worker: one lock instead of those on slices.  True if all is settled. */
static bool
lock_all(void)
{
	if (lock_on_all == ExclusiveLock)
		return true;
	if (!lock(ALL_SLICES, ExclusiveLock))
	{
		/* others are on their way out; what they have left can be taken */
		for (int i = 0; lock_on_all != NoLock && i < SLICES; i++)
			if (!slices[i].locked)
				slices[i].locked = lock(i, ExclusiveLock);
		return false;
	}
	for (int i = 0; i < SLICES; i++)
	{
		if (slices[i].locked)
			unlock(i, ExclusiveLock);
		slices[i].locked = true;
	}
	if (lock_on_all != NoLock)
		unlock(ALL_SLICES, lock_on_all);
	lock_on_all = ExclusiveLock;
	return true;
}

/* For one of several workers.  True if all is settled. */
static bool
lock_share(int workers)
{
	bool settled = true;

	if (lock_on_all == ExclusiveLock)
	{
		/* nobody else can have any of them */
		for (int i = 0; i < SLICES; i++)
			(void) lock(i, ExclusiveLock);
		(void) lock(ALL_SLICES, ShareLock);
		unlock(ALL_SLICES, ExclusiveLock);
		lock_on_all = ShareLock;
	}
	if (lock_on_all == NoLock && lock(ALL_SLICES, ShareLock))
		lock_on_all = ShareLock;
	if (lock_on_all == NoLock)
		return false;

	for (int i = 0; i < SLICES; i++)
	{
		bool mine = i % workers == worker_number;

		if (mine && !slices[i].locked)
			slices[i].locked = lock(i, ExclusiveLock);
		else if (!mine && slices[i].locked && slices[i].claimed == 0)
		{
			unlock(i, ExclusiveLock);
			slices[i].locked = false;
		}
		settled = settled && slices[i].locked == mine;
	}
	return settled;
}

/* Attempts that are given up, an array for each column. */
typedef struct Abandoned
{
	int n;
	int64 *hashes;
	int64 *ids;
	int32 *attempts;
	Datum *started_at;
	int32 *died;
} Abandoned;

static Abandoned
make_abandoned(int most)
{
	return (Abandoned){
		.hashes = palloc(Max(most, 1) * sizeof(int64)),
		.ids = palloc(Max(most, 1) * sizeof(int64)),
		.attempts = palloc(Max(most, 1) * sizeof(int32)),
		.started_at = palloc(Max(most, 1) * sizeof(Datum)),
		.died = palloc(Max(most, 1) * sizeof(int32)),
	};
}

static void
give_up_attempts(const Abandoned *a)
{
	Datum values[5];

	values[0] = osmtalk_int8_array(a->hashes, a->n);
	values[1] = osmtalk_int8_array(a->ids, a->n);
	values[2] = osmtalk_int4_array(a->attempts, a->n);
	values[3] = PointerGetDatum(construct_array(a->started_at, a->n, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[4] = osmtalk_int4_array(a->died, a->n);
	osmtalk_execute(&abandon, values);
}

/*
 * In the current transaction: what was claimed of slices that are locked and
 * not yet owned waits again.
 */
static void
release_claims(void)
{
	Abandoned a;
	Datum values[3];

	values[0] = origin;
	osmtalk_execute(&find_claims, values);
	a = make_abandoned((int) SPI_processed);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		bool isnull;
		int64 hash = DatumGetInt64(osmtalk_column(tuple, 1, &isnull));
		Slice *slice = slice_of(hash);
		int worker = DatumGetInt32(osmtalk_column(tuple, 5, &isnull));

		if (!slice->locked || slice->owned)
			continue;
		a.hashes[a.n] = hash;
		a.ids[a.n] = DatumGetInt64(osmtalk_column(tuple, 2, &isnull));
		a.attempts[a.n] = DatumGetInt32(osmtalk_column(tuple, 3, &isnull));
		a.started_at[a.n] = osmtalk_column(tuple, 4, &isnull);
		a.died[a.n++] = (workers_crashed >> worker & 1) != 0;
	}
	if (a.n > 0)
	{
		give_up_attempts(&a);
		if (SPI_processed > 0)
			ereport(LOG,
					errmsg("osmtalk: " UINT64_FORMAT " events were claimed when the last worker of database \"%s\" ended, they are sent again",
						   (uint64) SPI_processed, get_database_name(MyDatabaseId)));
		values[0] = osmtalk_int8_array(a.hashes, a.n);
		values[1] = osmtalk_int8_array(a.ids, a.n);
		values[2] = Int16GetDatum(OSMTALK_CONDEMNED_DEATHS);
		osmtalk_execute(&set_aside, values);
		if (SPI_processed > 0)
			ereport(LOG,
					errmsg("osmtalk: set aside " UINT64_FORMAT " events of database \"%s\", the worker died each time it sent them",
						   (uint64) SPI_processed, get_database_name(MyDatabaseId)));
	}
	values[0] = origin;
	osmtalk_execute(&remove_idle_claims, values);
}

bool
osmtalk_take_share(int workers, bool *settled)
{
	bool lost = false;
	bool won = false;

	for (int i = 0; i < SLICES; i++)
		if (i % workers != worker_number)
		{
			lost = lost || slices[i].owned;
			slices[i].owned = false;
		}
	*settled = workers == 1 && worker_number == 0 ? lock_all() : lock_share(workers);
	for (int i = 0; i < SLICES; i++)
		won = won || (slices[i].locked && !slices[i].owned && i % workers == worker_number);
	if (!won)
		return lost;

	osmtalk_begin();
	if (!osmtalk_lock_tables(true))
	{
		/* the extension was dropped: the next turn sees it, too */
		osmtalk_commit();
		return lost;
	}
	osmtalk_make_durable();
	release_claims();
	osmtalk_commit();
	for (int i = 0; i < SLICES; i++)
		slices[i].owned = slices[i].locked && i % workers == worker_number;
	return true;
}

bool
osmtalk_leave(dlist_head *results, OsmtalkDelivery **in_flight, int n)
{
	Datum values[1];
	Abandoned a;
	bool ok;

	osmtalk_begin();
	ok = osmtalk_lock_tables(false);
	if (ok)
	{
		/* no standby is waited for: what is lost with it is made again */
		(void) set_config_option("synchronous_commit", "local",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
		osmtalk_settle(results, OSMTALK_SETTLE_LAST);
		a = make_abandoned(n);
		for (int i = 0; i < n; i++)
		{
			a.hashes[i] = in_flight[i]->endpoint_hash;
			a.ids[i] = in_flight[i]->outbox_id;
			a.attempts[i] = in_flight[i]->attempt;
			a.started_at[i] = TimestampTzGetDatum(in_flight[i]->started_at);
			a.died[i] = 0;
		}
		a.n = n;
		if (n > 0)
			give_up_attempts(&a);
		osmtalk_return_probes();
		values[0] = Int32GetDatum(worker_number);
		osmtalk_execute(&remove_own_claims, values);
	}
	osmtalk_commit();
	return ok;
}
