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

/* the advisory lock's key: "osmt", and a slice of the outbox */
#define LOCK_CLASS 0x6f736d74
#define LOCK_SLICE 0

#define EXPIRE_BATCH 500

/*
 * Claims whose results nobody will report: each was an attempt, and waits to
 * be made again.
 */
static OsmtalkStatement release_claims = {
	"osmtalk: release claims",
	"WITH was AS MATERIALIZED ("
	"	SELECT o.id, o.claimed_at FROM osmtalk.outbox o"
	"	 WHERE o.claimed_at IS NOT NULL AND o.origin OPERATOR(pg_catalog.=) $1 FOR UPDATE SKIP LOCKED),"
	" released AS ("
	"	UPDATE osmtalk.outbox o"
	"	   SET claimed_at = NULL,"
	"		   worker_deaths = CASE WHEN $2 THEN o.worker_deaths OPERATOR(pg_catalog.+) 1::pg_catalog.int2"
	"								ELSE o.worker_deaths END"
	"	  FROM was WHERE o.id OPERATOR(pg_catalog.=) was.id"
	"	RETURNING o.event_id, o.attempts, was.claimed_at)"
	" INSERT INTO osmtalk.delivery_attempts (event_id, attempt, url, started_at, error)"
	" SELECT r.event_id, r.attempts, t.url, r.claimed_at,"
	"		 'no result: the worker ended while the request was in flight; it is made again'"
	"   FROM released r"
	"   LEFT JOIN osmtalk.events e ON e.id OPERATOR(pg_catalog.=) r.event_id"
	"   LEFT JOIN LATERAL osmtalk.delivery_target(e.type, e.org_id, e.campaign_id) t ON true"
	" ON CONFLICT DO NOTHING",
	2,
	{TEXTOID, BOOLOID}};

static OsmtalkStatement set_aside = {
	"osmtalk: set events aside",
	"WITH condemned AS ("
	"	DELETE FROM osmtalk.outbox o"
	"	 WHERE o.origin OPERATOR(pg_catalog.=) $1 AND o.worker_deaths OPERATOR(pg_catalog.>=) $2"
	"	RETURNING o.event_id, o.attempts)"
	" INSERT INTO osmtalk.delivery_attempts (event_id, attempt, started_at, error)"
	" SELECT c.event_id, c.attempts OPERATOR(pg_catalog.+) 1, pg_catalog.now(),"
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

Datum
osmtalk_origin(void)
{
	return origin;
}

static bool
lock_outbox(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_CLASS, LOCK_SLICE, 2);
	/* a session lock: it dies with this process, and not before */
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
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

	osmtalk_make_durable();
	values[0] = osmtalk_origin();
	values[1] = BoolGetDatum(crashed);
	osmtalk_execute(&release_claims, values);
	if (SPI_processed > 0)
		ereport(LOG,
				errmsg("osmtalk: " UINT64_FORMAT " requests were in flight when the last worker of database \"%s\" ended, they are made again",
					   (uint64) SPI_processed, get_database_name(MyDatabaseId)));
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
osmtalk_outbox_exists(void)
{
	bool exists;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	exists = get_extension_oid("osmtalk", true) == extension_oid;
	PopActiveSnapshot();
	CommitTransactionCommand();
	return exists;
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
	static const char *const tables[] = {"outbox", "delivery_attempts"};
	Datum values[2];
	Oid schema;

	osmtalk_begin();
	schema = get_namespace_oid("osmtalk", true);
	for (int i = 0; i < lengthof(tables); i++)
	{
		Oid table = OidIsValid(schema) ? get_relname_relid(tables[i], schema) : InvalidOid;

		if (!OidIsValid(table) || !ConditionalLockRelationOid(table, RowExclusiveLock))
		{
			osmtalk_commit();
			return false;
		}
	}
	/* no standby is waited for: what is lost with it is made again */
	(void) set_config_option("synchronous_commit", "local",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	osmtalk_settle(to_settle);
	values[0] = osmtalk_origin();
	values[1] = BoolGetDatum(false);
	osmtalk_execute(&release_claims, values);
	osmtalk_commit();
	return true;
}

bool
osmtalk_outbox_expire_calls(void)
{
	Datum values[1] = {Int32GetDatum(EXPIRE_BATCH)};
	int64 expired;
	bool isnull;

	osmtalk_begin();
	osmtalk_execute(&expire_calls, values);
	expired = DatumGetInt64(osmtalk_column(SPI_tuptable->vals[0], 1, &isnull));
	osmtalk_commit();
	return expired < EXPIRE_BATCH;
}
