/*
 * settle.c
 *		Records what came of deliveries: attempt rows in, outbox rows out.
 *
 * One statement each for a whole batch.  Knows nothing of how results came.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "settle.h"
#include "statements.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
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

static OsmtalkStatement record_attempts = {
	"osmtalk: record results",
	"INSERT INTO osmtalk.delivery_attempts"
	" (event_id, attempt, url, started_at, duration_ms, http_status, error, response_body, slot)"
	" SELECT n.* FROM " ATTEMPTS
	" ON CONFLICT DO NOTHING",
	9,
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
	9,
	ATTEMPT_TYPES};

static OsmtalkStatement remove_rows = {
	"osmtalk: record results",
	"DELETE FROM osmtalk.outbox o WHERE o.id OPERATOR(pg_catalog.=) ANY ($1)"
	" RETURNING o.id, o.slot",
	1,
	{INT8ARRAYOID}};

static OsmtalkStatement remove_unlocked_rows = {
	"osmtalk: record results",
	"DELETE FROM osmtalk.outbox o WHERE o.id IN ("
	"	SELECT u.id FROM osmtalk.outbox u WHERE u.id OPERATOR(pg_catalog.=) ANY ($1) FOR UPDATE SKIP LOCKED)"
	" RETURNING o.id, o.slot",
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

/* The columns of delivery_attempts, an array each. */
typedef struct Columns
{
	int n;
	Datum *values[9];
	bool *nulls[9];
} Columns;

static void
set_column(Columns *columns, int number, int row, Datum value, bool isnull)
{
	columns->values[number][row] = value;
	columns->nulls[number][row] = isnull;
}

static int
compare_deliveries(const void *a, const void *b)
{
	int64 left = (*(OsmtalkDelivery *const *) a)->outbox_id;
	int64 right = (*(OsmtalkDelivery *const *) b)->outbox_id;

	return left < right ? -1 : left > right;
}

/*
 * Removes the outbox rows, and notes of each the slot that its event is in
 * now: it may have been moved while the request was in flight, and the attempt
 * belongs beside it.
 */
static void
remove_outbox_rows(dlist_head *deliveries, int n, bool wait)
{
	OsmtalkDelivery **sorted = palloc(n * sizeof(OsmtalkDelivery *));
	int64 *ids = palloc(n * sizeof(int64));
	Datum values[1];
	dlist_iter iter;
	int i = 0;

	dlist_foreach(iter, deliveries)
		sorted[i++] = dlist_container(OsmtalkDelivery, node, iter.cur);
	qsort(sorted, n, sizeof(*sorted), compare_deliveries);
	for (i = 0; i < n; i++)
		ids[i] = sorted[i]->outbox_id;
	values[0] = PointerGetDatum(osmtalk_int8_array(ids, n));
	osmtalk_execute(wait ? &remove_rows : &remove_unlocked_rows, values);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		bool isnull;
		OsmtalkDelivery wanted = {.outbox_id = DatumGetInt64(osmtalk_column(SPI_tuptable->vals[row], 1, &isnull))};
		OsmtalkDelivery *key = &wanted;
		OsmtalkDelivery **found = bsearch(&key, sorted, n, sizeof(*sorted), compare_deliveries);

		(*found)->slot = DatumGetInt16(osmtalk_column(SPI_tuptable->vals[row], 2, &isnull));
	}
}

void
osmtalk_settle(dlist_head *deliveries, bool wait)
{
	Columns columns = {0};
	Datum arrays[9];
	int row = 0;
	dlist_iter iter;

	dlist_foreach(iter, deliveries)
		columns.n++;
	if (columns.n == 0)
		return;
	remove_outbox_rows(deliveries, columns.n, wait);
	for (int i = 0; i < lengthof(columns.values); i++)
	{
		columns.values[i] = palloc(columns.n * sizeof(Datum));
		columns.nulls[i] = palloc(columns.n * sizeof(bool));
	}

	dlist_foreach(iter, deliveries)
	{
		OsmtalkDelivery *d = dlist_container(OsmtalkDelivery, node, iter.cur);

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
		set_column(&columns, 8, row, Int16GetDatum(d->slot), false);
		row++;
	}

	for (int i = 0; i < lengthof(columns.values); i++)
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
	osmtalk_execute(&record_attempts, arrays);
	if (SPI_processed < columns.n)
		osmtalk_execute(&renumber_attempts, arrays);
}
