/*
 * settle.c
 *		Records what came of deliveries: attempt rows in, outbox rows out, or
 *		back to wait for another attempt.
 *
 * At once for a whole batch.  Knows nothing of how results came.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "insert.h"
#include "mb/pg_wchar.h"
#include "redelivery.h"
#include "retries.h"
#include "settle.h"
#include "statements.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#define ATTEMPTS                                                                                             \
	"ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)," \
	" pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8),"           \
	" pg_catalog.unnest($9))"                                                                                \
	" n (event_id, attempt, url, started_at, duration_ms, http_status, error, response_body, slot)"
#define ATTEMPT_TYPES                                 \
	{                                                 \
		TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID,     \
			TIMESTAMPTZARRAYOID, FLOAT8ARRAYOID,      \
			INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, \
			INT2ARRAYOID                              \
	}
#define NATTEMPT_COLUMNS 9

#define RECORD_ATTEMPTS                                                                           \
	"INSERT INTO osmtalk.delivery_attempts"                                                       \
	" (event_id, attempt, url, started_at, duration_ms, http_status, error, response_body, slot)" \
	" SELECT n.* FROM " ATTEMPTS

/* the same row by row, as sql/tables.sql has the table */
static OsmtalkColumn attempt_columns[NATTEMPT_COLUMNS] = {
	{"event_id", OSMTALK_TEXT, 0},
	{"attempt", OSMTALK_INT4, 0},
	{"url", OSMTALK_TEXT, 0},
	{"started_at", OSMTALK_TIME, 0},
	{"duration_ms", OSMTALK_FLOAT8, 0},
	{"http_status", OSMTALK_INT4, 0},
	{"error", OSMTALK_TEXT, 0},
	{"response_body", OSMTALK_TEXT, 0},
	{"slot", OSMTALK_INT2, 0}};
static OsmtalkTable attempts_slot = {attempt_columns, NATTEMPT_COLUMNS, "delivery_attempts", NULL};

static OsmtalkStatement record_attempts = {
	"osmtalk: record results",
	RECORD_ATTEMPTS,
	NATTEMPT_COLUMNS,
	ATTEMPT_TYPES};

/* the same, for those whose number is not taken */
static OsmtalkStatement record_new_attempts = {
	"osmtalk: record results",
	RECORD_ATTEMPTS " ON CONFLICT DO NOTHING",
	NATTEMPT_COLUMNS,
	ATTEMPT_TYPES};

/*
 * A number can be taken: by a redelivery that was asked for while the attempt
 * before was being settled, or by hand.  The attempt was made, so it gets the
 * next.
 */
static OsmtalkStatement renumber_attempts = {
	"osmtalk: record results",
	"INSERT INTO osmtalk.delivery_attempts"
	" (event_id, attempt, url, started_at, duration_ms, http_status, error, response_body, slot)"
	" SELECT n.event_id, (SELECT pg_catalog.max(a.attempt) OPERATOR(pg_catalog.+) 1 FROM osmtalk.delivery_attempts a"
	"					   WHERE a.event_id OPERATOR(pg_catalog.=) n.event_id),"
	"		 n.url, n.started_at, n.duration_ms, n.http_status, n.error, n.response_body, n.slot"
	"   FROM " ATTEMPTS
	"  WHERE NOT EXISTS (SELECT FROM osmtalk.delivery_attempts a"
	"					   WHERE a.event_id OPERATOR(pg_catalog.=) n.event_id"
	"						 AND a.started_at OPERATOR(pg_catalog.=) n.started_at)"
	" ON CONFLICT DO NOTHING",
	NATTEMPT_COLUMNS,
	ATTEMPT_TYPES};

#define MATCHES "o.endpoint_hash OPERATOR(pg_catalog.=) k.endpoint_hash AND o.id OPERATOR(pg_catalog.=) k.id"

/*
 * From the keys to the rows, whatever the planner thinks of the table when it
 * is asked: the other way round all dead rows would be passed.
 */
static OsmtalkStatement remove_rows = {
	"osmtalk: record results",
	"DELETE FROM osmtalk.outbox r WHERE r.ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
	"	SELECT f.tid FROM " OSMTALK_KEYS ","
	"		   LATERAL (SELECT o.ctid AS tid FROM osmtalk.outbox o WHERE " MATCHES " OFFSET 0) f))"
	" RETURNING r.id, r.slot, r.redelivery_id",
	2,
	{INT8ARRAYOID, INT8ARRAYOID}};

/* rows that are there; and of them those that no other session has locked; from the keys to the rows, too */
static OsmtalkStatement find_rows = {
	"osmtalk: record results",
	"SELECT k.number FROM " OSMTALK_KEYS ", LATERAL (SELECT FROM osmtalk.outbox o WHERE " MATCHES " OFFSET 0) f",
	2,
	{INT8ARRAYOID, INT8ARRAYOID}};
static OsmtalkStatement lock_rows = {
	"osmtalk: record results",
	"SELECT k.number FROM " OSMTALK_KEYS ","
	"		LATERAL (SELECT FROM osmtalk.outbox o WHERE " MATCHES " OFFSET 0 FOR UPDATE OF o SKIP LOCKED) f",
	2,
	{INT8ARRAYOID, INT8ARRAYOID}};

static OsmtalkStatement remove_claims = {
	"osmtalk: record results",
	"DELETE FROM osmtalk.claims c WHERE c.id OPERATOR(pg_catalog.=) ANY ($1)",
	1,
	{INT8ARRAYOID}};

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

static void
make_row(const OsmtalkDelivery *d, Datum *values, bool *isnull)
{
	memset(isnull, false, NATTEMPT_COLUMNS * sizeof(bool));
	values[0] = CStringGetTextDatum(d->event_id);
	values[1] = Int32GetDatum(d->attempt);
	if (!(isnull[2] = d->url == NULL))
		values[2] = CStringGetTextDatum(d->url);
	values[3] = TimestampTzGetDatum(d->started_at);
	values[4] = Float8GetDatum(d->duration_ms);
	values[5] = Int32GetDatum(d->http_status);
	isnull[5] = d->http_status == 0;
	if (!(isnull[6] = d->error[0] == '\0'))
		values[6] = PointerGetDatum(sanitize(d->error, strlen(d->error)));
	if (!(isnull[7] = d->response_len == 0))
		values[7] = PointerGetDatum(sanitize(d->response, d->response_len));
	values[8] = Int16GetDatum(d->slot);
}

/* Attempts of events in one slot. */
static void
record_in_slot(int slot, const Datum *values, const bool *isnull, int n)
{
	Datum arrays[NATTEMPT_COLUMNS];
	char partition[NAMEDATALEN];

	if (slot < 0)
		strlcpy(partition, "delivery_attempts_kept", sizeof(partition));
	else
		snprintf(partition, sizeof(partition), "delivery_attempts_%02d", slot);
	if (osmtalk_insert(partition, &attempts_slot, values, isnull, n))
		return;
	osmtalk_make_arrays(&record_attempts, values, isnull, n, arrays);
	osmtalk_execute(&record_attempts, arrays);
}

static void
record(OsmtalkDelivery **deliveries, int n, bool careful)
{
	Datum *values = palloc(n * NATTEMPT_COLUMNS * sizeof(Datum));
	bool *isnull = palloc(n * NATTEMPT_COLUMNS * sizeof(bool));
	Datum arrays[NATTEMPT_COLUMNS];

	for (int i = 0; i < n; i++)
		make_row(deliveries[i], values + i * NATTEMPT_COLUMNS, isnull + i * NATTEMPT_COLUMNS);
	if (!careful)
	{
		/* but for the moment at which the ring turns, all have one slot */
		for (int i = 0, end; i < n; i = end)
		{
			for (end = i + 1; end < n && deliveries[end]->slot == deliveries[i]->slot; end++)
				;
			record_in_slot(deliveries[i]->slot, values + i * NATTEMPT_COLUMNS, isnull + i * NATTEMPT_COLUMNS, end - i);
		}
		return;
	}
	osmtalk_make_arrays(&record_attempts, values, isnull, n, arrays);
	osmtalk_execute(&record_new_attempts, arrays);
	if (SPI_processed < n)
		osmtalk_execute(&renumber_attempts, arrays);
}

void
osmtalk_make_keys(OsmtalkDelivery **deliveries, int n, Datum keys[2])
{
	int64 *hashes = palloc(n * sizeof(int64));
	int64 *ids = palloc(n * sizeof(int64));

	for (int i = 0; i < n; i++)
	{
		hashes[i] = deliveries[i]->endpoint_hash;
		ids[i] = deliveries[i]->outbox_id;
	}
	keys[0] = osmtalk_int8_array(hashes, n);
	keys[1] = osmtalk_int8_array(ids, n);
}

/* Executes a statement that returns numbers of keys, and sets what each stands for. */
static void
mark(OsmtalkStatement *statement, Datum keys[2], bool *marks, bool value)
{
	osmtalk_execute(statement, keys);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;

		marks[DatumGetInt64(osmtalk_column(SPI_tuptable->vals[i], 1, &isnull)) - 1] = value;
	}
	SPI_freetuptable(SPI_tuptable);
}

void
osmtalk_lock_rows(OsmtalkDelivery **deliveries, int n, bool *locked)
{
	Datum keys[2];

	osmtalk_make_keys(deliveries, n, keys);
	mark(&lock_rows, keys, locked, true);
}

/* Moves those whose outbox row another session has locked to the end; returns how many are before them. */
static int
put_locked_last(OsmtalkDelivery **deliveries, int n)
{
	bool *locked = palloc0(n * sizeof(bool));
	OsmtalkDelivery **sorted = palloc(n * sizeof(*sorted));
	Datum keys[2];
	int nfree = 0;
	int nlocked = 0;

	osmtalk_make_keys(deliveries, n, keys);
	mark(&find_rows, keys, locked, true);
	mark(&lock_rows, keys, locked, false);
	for (int i = 0; i < n; i++)
		if (!locked[i])
			sorted[nfree++] = deliveries[i];
		else
			sorted[n - ++nlocked] = deliveries[i];
	memcpy(deliveries, sorted, n * sizeof(*sorted));
	return nfree;
}

/* Whether one of them has its row. */
static bool
exist(OsmtalkDelivery **deliveries, int n)
{
	bool *found = palloc0(n * sizeof(bool));
	Datum keys[2];

	osmtalk_make_keys(deliveries, n, keys);
	mark(&find_rows, keys, found, true);
	for (int i = 0; i < n; i++)
		if (found[i])
			return true;
	return false;
}

/* Removes their rows; returns how many had none, and which, where they may have been before. */
static int
remove_rows_of(OsmtalkDelivery **deliveries, int n, OsmtalkDelivery **missed, OsmtalkRedelivered *redelivered)
{
	Datum keys[2];
	bool *removed = palloc0(n * sizeof(bool));
	int at = 0;
	int nmissed = 0;

	osmtalk_make_keys(deliveries, n, keys);
	osmtalk_execute(&remove_rows, keys);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		bool isnull;
		int64 id = DatumGetInt64(osmtalk_column(tuple, 1, &isnull));
		int64 redelivery_id;

		/* they mostly come in the same order */
		for (int j = 0; j < n && deliveries[at]->outbox_id != id; j++)
			at = (at + 1) % n;
		deliveries[at]->slot = DatumGetInt16(osmtalk_column(tuple, 2, &isnull));
		removed[at] = true;
		redelivery_id = DatumGetInt64(osmtalk_column(tuple, 3, &isnull));
		if (!isnull)
			osmtalk_redelivered(redelivered, redelivery_id, deliveries[at]->error[0] == '\0');
	}
	SPI_freetuptable(SPI_tuptable);
	for (int i = 0; i < n; i++)
		if (!removed[i])
			missed[nmissed++] = deliveries[i];
	return nmissed;
}

/*
 * Notes of each the slot that its event is in now, too: it may have been moved
 * while the request was in flight, and the attempt belongs beside it.  Counts
 * those that a redelivery has enqueued.
 *
 * A row that another session changes in the midst of the statement is not where
 * the statement looked for it, and is looked for again.
 */
static void
remove_outbox_rows(OsmtalkDelivery **deliveries, int n)
{
	OsmtalkRedelivered redelivered = {0};
	OsmtalkDelivery **missed = palloc(n * sizeof(*missed));
	int nmissed = remove_rows_of(deliveries, n, missed, &redelivered);

	while (nmissed > 0 && exist(missed, nmissed))
		nmissed = remove_rows_of(missed, nmissed, missed, &redelivered);
	osmtalk_count_redelivered(&redelivered);
}

void
osmtalk_settle(dlist_head *results, OsmtalkCare care)
{
	OsmtalkDelivery **deliveries;
	int n = 0;
	int nremovable;
	dlist_iter iter;

	dlist_foreach(iter, results)
		n++;
	if (n == 0)
		return;
	deliveries = palloc(n * sizeof(*deliveries));
	n = 0;
	dlist_foreach(iter, results)
	{
		deliveries[n] = dlist_container(OsmtalkDelivery, node, iter.cur);
		deliveries[n++]->settled = false;
	}

	nremovable = care == OSMTALK_SETTLE_ALL ? n : put_locked_last(deliveries, n);
	if (care != OSMTALK_SETTLE_LAST)
		n = nremovable; /* the others are tried again */
	if (n == 0)
		return;
	if (nremovable > 0)
		nremovable = osmtalk_wait_for_retries(deliveries, nremovable);
	if (nremovable > 0)
		remove_outbox_rows(deliveries, nremovable);
	record(deliveries, n, care != OSMTALK_SETTLE_ALL);
	for (int i = 0; i < n; i++)
		deliveries[i]->settled = true;
}

void
osmtalk_settle_claims(Datum ids)
{
	osmtalk_execute(&remove_claims, &ids);
}
