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
#include <signal.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/syncrep.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "outbox.h"
#include "request.h"

/* the session advisory lock that makes a worker the owner: "osmtalk" and a slice */
#define LOCK_CLASS 0x6f736d74
#define LOCK_SLICE 0

/* worker deaths with a row in flight after which it is sent alone, and set aside */
#define SUSPECT_DEATHS 2
#define CONDEMNED_DEATHS 5

#define LOOK_BATCH 2000
#define EXPIRE_BATCH 500

/* a row that another session has locked is tried again after this long */
#define LOCKED_PAUSE_US 1000000

typedef struct Statement
{
	const char *what; /* shown in pg_stat_activity */
	const char *sql;
	int nargs;
	Oid argtypes[8];
	SPIPlanPtr plan;
} Statement;

#define PENDING_ROW                                                                          \
	"SELECT o.id, o.due_at, o.worker_deaths, t.url"                                          \
	"  FROM osmtalk.outbox o"                                                                \
	"  LEFT JOIN osmtalk.events e ON e.id OPERATOR(pg_catalog.=) o.event_id"                 \
	"  LEFT JOIN LATERAL osmtalk.delivery_target(e.type, e.org_id, e.campaign_id) t ON true" \
	" WHERE o.origin OPERATOR(pg_catalog.=) $1 AND o.claimed_at IS NULL"

/* everything; in the order it was enqueued */
static Statement look_all = {
	"osmtalk: read the outbox",
	PENDING_ROW " ORDER BY o.id",
	1,
	{TEXTOID}};

/*
 * What came since the snapshot $2.  A row of nulls says that calls are
 * overdue, so that an idle worker runs one statement per poll.
 */
static Statement look_new = {
	"osmtalk: look for new events",
	PENDING_ROW " AND o.xid OPERATOR(pg_catalog.>=) pg_catalog.pg_snapshot_xmax($2)"
				" UNION ALL " PENDING_ROW " AND o.xid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT pg_catalog.pg_snapshot_xip($2)))"
				" UNION ALL "
				"SELECT NULL, NULL, NULL, NULL WHERE $3 AND osmtalk.has_overdue_calls()",
	3,
	{TEXTOID, PG_SNAPSHOTOID, BOOLOID}};

static Statement claim = {
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
	"	RETURNING o.id, o.event_id, o.attempts)"
	" SELECT c.id, c.event_id, c.attempts, t.url, t.secret, e.body"
	"   FROM claimed c"
	"   LEFT JOIN osmtalk.events e ON e.id OPERATOR(pg_catalog.=) c.event_id"
	"   LEFT JOIN LATERAL osmtalk.delivery_target(e.type, e.org_id, e.campaign_id) t ON true",
	2,
	{INT8ARRAYOID, TEXTOID}};

/* of those that could not be claimed: which are still there */
static Statement still_there = {
	"osmtalk: look at locked events",
	"SELECT o.id, o.due_at, o.worker_deaths FROM osmtalk.outbox o"
	" WHERE o.id OPERATOR(pg_catalog.=) ANY ($1) AND o.origin OPERATOR(pg_catalog.=) $2 AND o.claimed_at IS NULL",
	2,
	{INT8ARRAYOID, TEXTOID}};

static Statement record_attempts = {
	"osmtalk: record results",
	"INSERT INTO osmtalk.delivery_attempts"
	" (event_id, attempt, url, started_at, duration_ms, http_status, error, response_body)"
	" SELECT * FROM ROWS FROM ("
	"	pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
	"	pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8))"
	/* only after somebody wrote to these tables by hand; it must not stop the others */
	" ON CONFLICT DO NOTHING",
	8,
	{TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID,
	 FLOAT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID}};

static Statement remove_rows = {
	"osmtalk: record results",
	"DELETE FROM osmtalk.outbox o WHERE o.id OPERATOR(pg_catalog.=) ANY ($1)",
	1,
	{INT8ARRAYOID}};

/*
 * Claims whose results nobody will report: each was an attempt, and waits to
 * be made again.
 */
static Statement release_claims = {
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

static Statement set_aside = {
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

static Statement not_adopted = {
	"osmtalk: count events of another database",
	"SELECT n.events, n.calls FROM osmtalk.count_not_adopted() n",
	0};

static Statement expire_calls = {
	"osmtalk: decide overdue calls",
	"SELECT osmtalk.expire_calls($1)",
	1,
	{INT4OID}};

static Oid extension_oid = InvalidOid;
static Datum origin;					/* of this database, in TopMemoryContext */
static Datum last_snapshot = (Datum) 0; /* of the last look, in TopMemoryContext */
static MemoryContext delivery_context = NULL;

/* ---- transactions and statements ---- */

/*
 * The claim must be durable before anything is sent: on the standby, too,
 * where there is a synchronous one.  What the configuration asks for beyond
 * that stands.
 */
static void
make_durable(void)
{
	bool standby = SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0';
	int least = standby ? SYNCHRONOUS_COMMIT_REMOTE_FLUSH : SYNCHRONOUS_COMMIT_LOCAL_FLUSH;

	if (synchronous_commit < least)
		(void) set_config_option("synchronous_commit", standby ? "on" : "local",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

static void
begin(void)
{
	pqsignal(SIGINT, StatementCancelHandler); /* see commit() */
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/*
 * A cancel or a termination would end the wait for a synchronous standby with
 * a mere warning, and a claim would look durable that is not: the one is
 * ignored meanwhile, the other ends the process here.
 */
static void
commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CHECK_FOR_INTERRUPTS();
	pqsignal(SIGINT, SIG_IGN);
	CommitTransactionCommand();
	pqsignal(SIGINT, StatementCancelHandler);
	CHECK_FOR_INTERRUPTS();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

static SPIPlanPtr
plan_of(Statement *s)
{
	pgstat_report_activity(STATE_RUNNING, s->what);
	if (s->plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(s->sql, s->nargs, s->argtypes);

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", s->what, SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		s->plan = plan;
	}
	return s->plan;
}

static void
execute(Statement *s, Datum *values)
{
	int rc = SPI_execute_plan(plan_of(s), values, NULL, false, 0);

	if (rc < 0)
		elog(ERROR, "could not execute \"%s\": %s", s->what, SPI_result_code_string(rc));
}

static Datum
column(HeapTuple tuple, int number, bool *isnull)
{
	return SPI_getbinval(tuple, SPI_tuptable->tupdesc, number, isnull);
}

/* A text column, copied; NULL for a null. */
static char *
text_column(HeapTuple tuple, int number, MemoryContext context, size_t *len)
{
	bool isnull;
	Datum value = column(tuple, number, &isnull);
	struct varlena *detoasted;
	char *copy;
	size_t n;

	if (isnull)
		return NULL;
	detoasted = PG_DETOAST_DATUM_PACKED(value);
	n = VARSIZE_ANY_EXHDR(detoasted);
	copy = MemoryContextAlloc(context, n + 1);
	memcpy(copy, VARDATA_ANY(detoasted), n);
	copy[n] = '\0';
	if (len != NULL)
		*len = n;
	if ((Pointer) detoasted != DatumGetPointer(value))
		pfree(detoasted);
	return copy;
}

static ArrayType *
int8_array(const int64 *elements, int n)
{
	Datum *values = palloc(n * sizeof(Datum));

	for (int i = 0; i < n; i++)
		values[i] = Int64GetDatum(elements[i]);
	return construct_array(values, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

/* ---- attach ---- */

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
	begin();
	extension_oid = get_extension_oid("osmtalk", true);
	if (!OidIsValid(extension_oid) || !lock_outbox())
	{
		*owned_by_other = OidIsValid(extension_oid);
		commit();
		return false;
	}

	if (delivery_context == NULL)
		delivery_context = AllocSetContextCreate(TopMemoryContext, "osmtalk deliveries", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(TopMemoryContext);
	origin = CStringGetTextDatum(psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId));
	MemoryContextSwitchTo(old);

	make_durable();
	values[0] = origin;
	values[1] = BoolGetDatum(crashed);
	execute(&release_claims, values);
	if (SPI_processed > 0)
		ereport(LOG,
				errmsg("osmtalk: " UINT64_FORMAT " requests were in flight when the last worker of database \"%s\" ended, they are made again",
					   (uint64) SPI_processed, get_database_name(MyDatabaseId)));
	values[1] = Int16GetDatum(CONDEMNED_DEATHS);
	execute(&set_aside, values);
	if (SPI_processed > 0)
		ereport(LOG,
				errmsg("osmtalk: set aside " UINT64_FORMAT " events of database \"%s\", the worker died each time it sent them",
					   (uint64) SPI_processed, get_database_name(MyDatabaseId)));
	commit();
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

/* ---- settle ---- */

/*
 * What a receiver answered, as text that the database can hold: bytes that
 * are no UTF-8, and NULs, become question marks; a character cut off at the
 * end is dropped.
 */
static text *
sanitize(const char *bytes, size_t len)
{
	text *result = palloc(VARHDRSZ + len);
	char *to = VARDATA(result);

	for (size_t i = 0; i < len;)
	{
		const unsigned char *c = (const unsigned char *) bytes + i;
		int n = pg_utf_mblen(c);

		if (i + n > len && len == OSMTALK_RESPONSE_LEN)
			break;
		if (*c == '\0' || i + n > len || !pg_utf8_islegal(c, n))
		{
			*to++ = '?';
			i++;
			continue;
		}
		memcpy(to, c, n);
		to += n;
		i += n;
	}
	SET_VARSIZE(result, to - (char *) result);
	return result;
}

/* The columns of delivery_attempts, an array each. */
typedef struct Columns
{
	int n;
	Datum *values[8];
	bool *nulls[8];
} Columns;

static void
set_column(Columns *columns, int number, int row, Datum value, bool isnull)
{
	columns->values[number][row] = value;
	columns->nulls[number][row] = isnull;
}

static void
settle(dlist_head *deliveries)
{
	Columns columns = {0};
	Datum arrays[8];
	int64 *ids;
	int row = 0;
	dlist_iter iter;
	Datum values[1];

	dlist_foreach(iter, deliveries)
		columns.n++;
	if (columns.n == 0)
		return;
	ids = palloc(columns.n * sizeof(int64));
	for (int i = 0; i < 8; i++)
	{
		columns.values[i] = palloc(columns.n * sizeof(Datum));
		columns.nulls[i] = palloc(columns.n * sizeof(bool));
	}

	dlist_foreach(iter, deliveries)
	{
		OsmtalkDelivery *d = dlist_container(OsmtalkDelivery, node, iter.cur);

		ids[row] = d->outbox_id;
		set_column(&columns, 0, row, CStringGetTextDatum(d->event_id), false);
		set_column(&columns, 1, row, Int32GetDatum(d->attempt), false);
		set_column(&columns, 2, row, d->url ? CStringGetTextDatum(d->url) : (Datum) 0, d->url == NULL);
		set_column(&columns, 3, row, TimestampTzGetDatum(d->started_at), false);
		set_column(&columns, 4, row, Float8GetDatum(d->duration_ms), false);
		set_column(&columns, 5, row, Int32GetDatum(d->http_status), d->http_status == 0);
		set_column(&columns, 6, row,
				   d->error[0] ? PointerGetDatum(sanitize(d->error, strlen(d->error))) : (Datum) 0,
				   d->error[0] == '\0');
		set_column(&columns, 7, row,
				   d->response_len ? PointerGetDatum(sanitize(d->response, d->response_len)) : (Datum) 0,
				   d->response_len == 0);
		row++;
	}

	for (int i = 0; i < 8; i++)
	{
		Oid type = get_element_type(record_attempts.argtypes[i]);
		int16 len;
		bool byval;
		char align;
		int dims[1] = {columns.n};
		int lbs[1] = {1};

		get_typlenbyvalalign(type, &len, &byval, &align);
		arrays[i] = PointerGetDatum(construct_md_array(columns.values[i], columns.nulls[i], 1, dims, lbs,
													   type, len, byval, align));
	}
	execute(&record_attempts, arrays);
	values[0] = PointerGetDatum(int8_array(ids, columns.n));
	execute(&remove_rows, values);
}

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
	if (!osmtalk_scheduler_add(scheduler, endpoint, id, due_at, GetCurrentTimestamp(), deaths >= SUSPECT_DEATHS))
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
}

static void
look(OsmtalkTurn *turn, OsmtalkScheduler *scheduler)
{
	bool all = turn->reload || last_snapshot == (Datum) 0;
	Datum values[3];
	Datum snapshot;
	Portal portal;
	MemoryContext old;

	/* the look and the note of how far it saw are of one snapshot */
	PushActiveSnapshot(GetTransactionSnapshot());
	snapshot = OidFunctionCall0(F_PG_CURRENT_SNAPSHOT);
	values[0] = origin;
	values[1] = last_snapshot;
	values[2] = BoolGetDatum(turn->check_overdue);
	if (all)
		osmtalk_scheduler_clear(scheduler);

	portal = SPI_cursor_open(NULL, plan_of(all ? &look_all : &look_new), values, NULL, true);
	do
	{
		SPI_cursor_fetch(portal, true, LOOK_BATCH);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			HeapTuple tuple = SPI_tuptable->vals[i];
			bool isnull;
			int64 id = DatumGetInt64(column(tuple, 1, &isnull));
			char *url;

			if (isnull)
			{
				turn->overdue = true;
				continue;
			}
			url = text_column(tuple, 4, CurrentMemoryContext, NULL);
			enqueue(scheduler, endpoint_of(scheduler, url ? url : ""), id,
					DatumGetTimestampTz(column(tuple, 2, &isnull)),
					DatumGetInt16(column(tuple, 3, &isnull)));
			if (url != NULL)
				pfree(url);
			turn->found++;
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
}

/* Says in the log, when it changes, what waits for adopt(). */
static void
report_not_adopted(void)
{
	static int64 last_events = 0;
	static int64 last_calls = 0;
	int64 events;
	int64 calls;
	bool isnull;

	execute(&not_adopted, NULL);
	events = DatumGetInt64(column(SPI_tuptable->vals[0], 1, &isnull));
	calls = DatumGetInt64(column(SPI_tuptable->vals[0], 2, &isnull));
	if ((events > 0 || calls > 0) && (events != last_events || calls != last_calls))
		ereport(LOG,
				errmsg("osmtalk: database \"%s\" holds " INT64_FORMAT " events and " INT64_FORMAT " undecided calls of another database, they are neither sent nor timed out",
					   get_database_name(MyDatabaseId), events, calls),
				errhint("SELECT osmtalk.adopt() takes them over, osmtalk.adopt(discard => true) drops them."));
	last_events = events;
	last_calls = calls;
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
	d->event_id = text_column(tuple, 2, delivery_context, NULL);
	d->attempt = DatumGetInt32(column(tuple, 3, &isnull));
	d->url = text_column(tuple, 4, delivery_context, NULL);
	d->secret = text_column(tuple, 5, delivery_context, NULL);
	d->body = text_column(tuple, 6, delivery_context, &d->body_len);
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

	values[0] = PointerGetDatum(int8_array(ids, n));
	values[1] = origin;
	execute(&still_there, values);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		bool isnull;
		int64 id = DatumGetInt64(column(tuple, 1, &isnull));
		TimestampTz due_at = DatumGetTimestampTz(column(tuple, 2, &isnull));

		enqueue(scheduler, find_ticket(turn, id)->endpoint, id, Max(due_at, soon),
				DatumGetInt16(column(tuple, 3, &isnull)));
	}
	/* last, because an error above ends all tickets */
	for (int i = 0; i < turn->ntickets; i++)
		if (!turn->tickets[i]->claimed)
		{
			osmtalk_scheduler_done(scheduler, turn->tickets[i], OSMTALK_NOT_SENT);
			turn->tickets[i--] = turn->tickets[--turn->ntickets];
		}
}

static void
claim_picked(OsmtalkTurn *turn, OsmtalkScheduler *scheduler)
{
	int capacity = 64;
	OsmtalkTicket *ticket;
	int64 *ids;
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

	make_durable();
	values[0] = PointerGetDatum(int8_array(ids, turn->ntickets));
	values[1] = origin;
	execute(&claim, values);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		bool isnull;
		OsmtalkDelivery *d;

		ticket = find_ticket(turn, DatumGetInt64(column(tuple, 1, &isnull)));
		d = make_delivery(tuple, ticket);
		ticket->claimed = true;
		dlist_push_tail(&turn->claimed, &d->node);
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
	dlist_init(&turn->claimed);
	turn->tickets = NULL;
	turn->ntickets = 0;
	turn->found = 0;
	turn->overdue = false;

	begin();
	if (!dlist_is_empty(turn->settle))
	{
		make_durable();
		settle(turn->settle);
	}
	if (turn->reload)
		report_not_adopted();
	look(turn, scheduler);
	if (turn->claim)
		claim_picked(turn, scheduler);
	commit();
	if (turn->tickets != NULL)
		pfree(turn->tickets);
	turn->tickets = NULL;
}

bool
osmtalk_outbox_leave(dlist_head *to_settle)
{
	static const char *const tables[] = {"outbox", "delivery_attempts"};
	Datum values[2];
	Oid schema;

	begin();
	schema = get_namespace_oid("osmtalk", true);
	for (int i = 0; i < lengthof(tables); i++)
	{
		Oid table = OidIsValid(schema) ? get_relname_relid(tables[i], schema) : InvalidOid;

		if (!OidIsValid(table) || !ConditionalLockRelationOid(table, RowExclusiveLock))
		{
			commit();
			return false;
		}
	}
	/* no standby is waited for: what is lost with it is made again */
	(void) set_config_option("synchronous_commit", "local",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	settle(to_settle);
	values[0] = origin;
	values[1] = BoolGetDatum(false);
	execute(&release_claims, values);
	commit();
	return true;
}

bool
osmtalk_outbox_expire_calls(void)
{
	Datum values[1] = {Int32GetDatum(EXPIRE_BATCH)};
	int64 expired;
	bool isnull;

	begin();
	execute(&expire_calls, values);
	expired = DatumGetInt64(column(SPI_tuptable->vals[0], 1, &isnull));
	commit();
	return expired < EXPIRE_BATCH;
}
