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
#include "commands/extension.h"
#include "miscadmin.h"
#include "ownership.h"
#include "settle.h"
#include "statements.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* the advisory lock's key: "osmt", and a slice of the outbox */
#define LOCK_CLASS 0x6f736d74
#define LOCK_SLICE 0

#define EXPIRE_BATCH 500

/*
 * Claims, made before $3, whose results nobody will report: each was an
 * attempt, and waits to be made again.
 */
static OsmtalkStatement release_claims = {
	"osmtalk: release claims",
	"WITH was AS MATERIALIZED ("
	"	SELECT o.id, o.claimed_at FROM osmtalk.outbox o"
	"	 WHERE o.claimed_at OPERATOR(pg_catalog.<) $3 AND o.origin OPERATOR(pg_catalog.=) $1 FOR UPDATE SKIP LOCKED),"
	" released AS ("
	"	UPDATE osmtalk.outbox o"
	"	   SET claimed_at = NULL,"
	"		   worker_deaths = CASE WHEN $2 THEN o.worker_deaths OPERATOR(pg_catalog.+) 1::pg_catalog.int2"
	"								ELSE o.worker_deaths END"
	"	  FROM was WHERE o.id OPERATOR(pg_catalog.=) was.id"
	"	RETURNING o.event_id, o.slot, o.attempts, was.claimed_at)"
	" INSERT INTO osmtalk.delivery_attempts (slot, event_id, attempt, url, started_at, error)"
	" SELECT r.slot, r.event_id, r.attempts, t.url, r.claimed_at,"
	"		 'no result: the worker ended while the request was in flight; it is made again'"
	"   FROM released r"
	"   LEFT JOIN osmtalk.events e ON e.slot OPERATOR(pg_catalog.=) r.slot AND e.id OPERATOR(pg_catalog.=) r.event_id"
	"   LEFT JOIN LATERAL osmtalk.delivery_target(e.type, e.org_id, e.campaign_id) t ON true"
	" ON CONFLICT DO NOTHING",
	3,
	{TEXTOID, BOOLOID, TIMESTAMPTZOID}};

static OsmtalkStatement count_claims = {
	"osmtalk: release claims",
	"SELECT pg_catalog.count(*) FROM osmtalk.outbox o"
	" WHERE o.claimed_at OPERATOR(pg_catalog.<) $2 AND o.origin OPERATOR(pg_catalog.=) $1",
	2,
	{TEXTOID, TIMESTAMPTZOID}};

static OsmtalkStatement set_aside = {
	"osmtalk: set events aside",
	"WITH condemned AS ("
	"	DELETE FROM osmtalk.outbox o"
	"	 WHERE o.origin OPERATOR(pg_catalog.=) $1 AND o.worker_deaths OPERATOR(pg_catalog.>=) $2"
	"	RETURNING o.event_id, o.slot, o.attempts)"
	" INSERT INTO osmtalk.delivery_attempts (slot, event_id, attempt, started_at, error)"
	" SELECT c.slot, c.event_id, c.attempts OPERATOR(pg_catalog.+) 1, pg_catalog.now(),"
	"		 'set aside: the worker died each time it sent this event'"
	"   FROM condemned c"
	" ON CONFLICT DO NOTHING",
	2,
	{TEXTOID, INT2OID}};

static OsmtalkStatement not_adopted = {
	"osmtalk: count events of another database",
	"SELECT n.events, n.calls FROM osmtalk.not_adopted n",
	0};

static OsmtalkStatement expire_calls = {
	"osmtalk: decide overdue calls",
	"SELECT osmtalk.expire_calls($1)",
	1,
	{INT4OID}};

static Oid extension_oid = InvalidOid;
static Datum origin; /* in TopMemoryContext */
static TimestampTz attached_at;
static bool died_of_its_own; /* the worker before this one */
static bool claims_left;	 /* by that worker, in rows that were locked */

Datum
osmtalk_origin(void)
{
	return origin;
}

static bool
lock_outbox(void)
{
	LOCKTAG tag;

	/* the last number keeps it out of reach of SQL's advisory lock functions, which use 1 and 2 */
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_CLASS, LOCK_SLICE, 3);
	/* a session lock: it dies with this process, and not before */
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * In the current transaction.  What another session has locked is left for
 * later.  Returns how many were released.
 */
static uint64
release_claims_of_others(TimestampTz before)
{
	Datum values[3];
	uint64 released;
	bool isnull;

	values[0] = osmtalk_origin();
	values[1] = BoolGetDatum(died_of_its_own);
	values[2] = TimestampTzGetDatum(before);
	osmtalk_execute(&release_claims, values);
	released = SPI_processed;
	if (released > 0)
		ereport(LOG,
				errmsg("osmtalk: " UINT64_FORMAT " requests were in flight when the last worker of database \"%s\" ended, they are made again",
					   released, get_database_name(MyDatabaseId)));

	values[1] = TimestampTzGetDatum(before);
	osmtalk_execute(&count_claims, values);
	claims_left = DatumGetInt64(osmtalk_column(SPI_tuptable->vals[0], 1, &isnull)) > 0;
	return released;
}

bool
osmtalk_outbox_attach(bool crashed, bool *owned_by_other)
{
	Datum values[2];
	MemoryContext old;

	*owned_by_other = false;
	osmtalk_begin();
	extension_oid = get_extension_oid("osmtalk", true);
	if (!OidIsValid(extension_oid) || !lock_outbox())
	{
		*owned_by_other = OidIsValid(extension_oid);
		osmtalk_commit();
		return false;
	}

	old = MemoryContextSwitchTo(TopMemoryContext);
	origin = CStringGetTextDatum(psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId));
	MemoryContextSwitchTo(old);
	attached_at = GetCurrentTimestamp();
	died_of_its_own = crashed;

	osmtalk_make_durable();
	(void) release_claims_of_others(DT_NOEND); /* this process has made none yet */
	values[0] = osmtalk_origin();
	values[1] = Int16GetDatum(OSMTALK_CONDEMNED_DEATHS);
	osmtalk_execute(&set_aside, values);
	if (SPI_processed > 0)
		ereport(LOG,
				errmsg("osmtalk: set aside " UINT64_FORMAT " events of database \"%s\", the worker died each time it sent them",
					   (uint64) SPI_processed, get_database_name(MyDatabaseId)));
	osmtalk_commit();
	return true;
}

bool
osmtalk_outbox_release_rest(void)
{
	uint64 released;

	if (!claims_left)
		return false;
	osmtalk_begin();
	osmtalk_make_durable();
	released = release_claims_of_others(attached_at);
	osmtalk_commit();
	return released > 0;
}

/* The extension as it is now, InvalidOid if there is none; in its own transaction. */
static Oid
current_extension(void)
{
	Oid current;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	current = get_extension_oid("osmtalk", true);
	PopActiveSnapshot();
	CommitTransactionCommand();
	return current;
}

OsmtalkPresence
osmtalk_outbox_presence(void)
{
	Oid current = current_extension();

	return current == extension_oid ? OSMTALK_PRESENT : OidIsValid(current) ? OSMTALK_REPLACED
																			: OSMTALK_ABSENT;
}

/*
 * Locks the tables that the worker writes, and those that it reads as well if
 * it must not wait.  False if the extension is not the one that this process
 * attached to (dropped, or dropped and created again: then the tables have
 * the same names and other rows), or a lock would have to be waited for.
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
		{"delivery_attempts", RowExclusiveLock},
		{"events", AccessShareLock},
		{"campaigns", AccessShareLock},
		{"org_settings", AccessShareLock},
	};
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
	return get_extension_oid("osmtalk", true) == extension_oid;
}

/* Says in the log, when it changes, what waits for adopt(). */
void
osmtalk_report_not_adopted(void)
{
	static int64 last_events = 0;
	static int64 last_calls = 0;
	int64 events;
	int64 calls;
	bool isnull;

	osmtalk_execute(&not_adopted, NULL);
	events = DatumGetInt64(osmtalk_column(SPI_tuptable->vals[0], 1, &isnull));
	calls = DatumGetInt64(osmtalk_column(SPI_tuptable->vals[0], 2, &isnull));
	if ((events > 0 || calls > 0) && (events != last_events || calls != last_calls))
		ereport(LOG,
				errmsg("osmtalk: database \"%s\" holds " INT64_FORMAT " events and " INT64_FORMAT " undecided calls of another database, they are neither sent nor timed out",
					   get_database_name(MyDatabaseId), events, calls),
				errhint("SELECT osmtalk.adopt() takes them over, osmtalk.adopt(discard => true) drops them."));
	last_events = events;
	last_calls = calls;
}

bool
osmtalk_outbox_leave(dlist_head *to_settle)
{
	Datum values[3];
	bool ok;

	osmtalk_begin();
	ok = osmtalk_lock_tables(false);
	if (ok)
	{
		/* no standby is waited for: what is lost with it is made again */
		(void) set_config_option("synchronous_commit", "local",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
		osmtalk_settle(to_settle, false);
		values[0] = osmtalk_origin();
		values[1] = BoolGetDatum(false);
		values[2] = TimestampTzGetDatum(DT_NOEND);
		osmtalk_execute(&release_claims, values);
	}
	osmtalk_commit();
	return ok;
}

OsmtalkExpired
osmtalk_outbox_expire_calls(void)
{
	Datum values[1] = {Int32GetDatum(EXPIRE_BATCH)};
	int64 expired;
	bool isnull;

	osmtalk_begin();
	osmtalk_execute(&expire_calls, values);
	expired = DatumGetInt64(osmtalk_column(SPI_tuptable->vals[0], 1, &isnull));
	osmtalk_commit();
	return expired == 0 ? OSMTALK_EXPIRED_NONE : expired < EXPIRE_BATCH ? OSMTALK_EXPIRED_ALL
																		: OSMTALK_EXPIRED_SOME;
}
