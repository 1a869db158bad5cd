/*
 * retries.c
 *		Events that wait: for their next attempt, their time, or their
 *		endpoint.
 *
 * Which do, and how long, is for SQL to say (sql/retries.sql, endpoints.sql):
 * here are the worker's calls of it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "claimed.h"
#include "endpoint.h"
#include "ownership.h"
#include "retries.h"
#include "slot.h"
#include "statements.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define RELEASE_BATCH 1000

static OsmtalkStatement wait_for_retries = {
	"osmtalk: record results",
	"SELECT k.number, w.slot"
	"  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),"
	"				   pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7))"
	"		WITH ORDINALITY k (endpoint_hash, id, attempt, endpoint_id, schedule, http_status, retry_after, number),"
	"		LATERAL osmtalk.wait_for_retry(k.endpoint_hash, k.id, k.attempt, k.endpoint_id,"
	"			k.schedule::pg_catalog.interval[], k.http_status,"
	"			pg_catalog.make_interval(secs => k.retry_after)) w (slot)"
	" WHERE w.slot IS NOT NULL",
	7,
	{INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, FLOAT8ARRAYOID}};

static OsmtalkStatement put_waiting = {
	"osmtalk: have events wait",
	"SELECT osmtalk.put_waiting($1, $2, $3)",
	3,
	{INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID}};

static OsmtalkStatement begin_probe = {
	"osmtalk: probe an endpoint",
	"SELECT osmtalk.begin_probe($1)",
	1,
	{TEXTOID}};

static OsmtalkStatement return_probe = {
	"osmtalk: probe an endpoint",
	"SELECT osmtalk.return_probe($1)",
	1,
	{TEXTOID}};

static OsmtalkStatement release_waiting = {
	"osmtalk: have waiting events go",
	"SELECT osmtalk.release_waiting($1)",
	1,
	{INT4OID}};

static OsmtalkStatement find_waiting = {
	"osmtalk: look for waiting events",
	"SELECT osmtalk.find_waiting()",
	0};

static OsmtalkStatement follow_clock = {
	"osmtalk: follow the clock",
	"SELECT osmtalk.follow_clock(pg_catalog.make_interval(secs => $1))",
	1,
	{FLOAT8OID}};

/* an endpoint whose probe was claimed, and not made */
typedef struct UnusedProbe
{
	dlist_node node;
	bool returned; /* in the current transaction */
	char endpoint_id[OSMTALK_ENDPOINT_ID_LEN];
} UnusedProbe;

static dlist_head unused_probes = DLIST_STATIC_INIT(unused_probes);

/* ---- results ---- */

/* Whether the attempt failed in a way that another might not. */
static bool
may_be_retried(const OsmtalkDelivery *d)
{
	return d->error[0] != '\0' && d->retry_schedule != NULL && !d->permanent;
}

/* Sets "retried", and the event's slot as it is now, in those that are. */
static void
wait_for_their_retries(OsmtalkDelivery **failed, int n)
{
	Datum *values = palloc(n * wait_for_retries.nargs * sizeof(Datum));
	bool *isnull = palloc0(n * wait_for_retries.nargs * sizeof(bool));
	Datum arrays[7];

	for (int i = 0; i < n; i++)
	{
		const OsmtalkDelivery *d = failed[i];
		Datum *row = values + i * wait_for_retries.nargs;
		char id[OSMTALK_ENDPOINT_ID_LEN];

		row[0] = Int64GetDatum(d->endpoint_hash);
		row[1] = Int64GetDatum(d->outbox_id);
		row[2] = Int32GetDatum(d->attempt);
		osmtalk_endpoint_id_of(d->org_id, strlen(d->org_id), d->url, strlen(d->url), id);
		row[3] = CStringGetTextDatum(id);
		row[4] = CStringGetTextDatum(d->retry_schedule);
		row[5] = Int32GetDatum(d->http_status);
		isnull[i * wait_for_retries.nargs + 5] = d->http_status == 0;
		row[6] = Float8GetDatum(d->retry_after);
		isnull[i * wait_for_retries.nargs + 6] = d->retry_after <= 0;
	}
	osmtalk_make_arrays(&wait_for_retries, values, isnull, n, arrays);
	osmtalk_execute(&wait_for_retries, arrays);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		bool null;
		OsmtalkDelivery *d = failed[DatumGetInt64(osmtalk_column(tuple, 1, &null)) - 1];

		d->slot = DatumGetInt16(osmtalk_column(tuple, 2, &null));
		d->retried = true;
	}
	SPI_freetuptable(SPI_tuptable);
}

int
osmtalk_wait_for_retries(OsmtalkDelivery **deliveries, int n)
{
	OsmtalkDelivery **failed = NULL;
	int nfailed = 0;
	int nover = 0;

	for (int i = 0; i < n; i++)
	{
		deliveries[i]->retried = false;
		if (!may_be_retried(deliveries[i]))
			continue;
		if (failed == NULL)
			failed = palloc(n * sizeof(*failed));
		failed[nfailed++] = deliveries[i];
	}
	if (nfailed == 0)
		return n;
	wait_for_their_retries(failed, nfailed);
	nfailed = 0;
	for (int i = 0; i < n; i++)
		if (deliveries[i]->retried)
			failed[nfailed++] = deliveries[i];
		else
			deliveries[nover++] = deliveries[i];
	memcpy(deliveries + nover, failed, nfailed * sizeof(*failed));
	return nover;
}

/* ---- claims ---- */

void
osmtalk_note_wait(OsmtalkWaits *waits, int64 endpoint_hash, int64 outbox_id, const char *endpoint_id)
{
	if (waits->n == waits->capacity)
	{
		int capacity = Max(waits->capacity * 2, 64);
		Datum *values = palloc(capacity * put_waiting.nargs * sizeof(Datum));
		bool *isnull = palloc0(capacity * put_waiting.nargs * sizeof(bool));

		if (waits->n > 0)
		{
			memcpy(values, waits->values, waits->n * put_waiting.nargs * sizeof(Datum));
			memcpy(isnull, waits->isnull, waits->n * put_waiting.nargs * sizeof(bool));
		}
		waits->values = values;
		waits->isnull = isnull;
		waits->capacity = capacity;
	}
	waits->values[waits->n * put_waiting.nargs] = Int64GetDatum(endpoint_hash);
	waits->values[waits->n * put_waiting.nargs + 1] = Int64GetDatum(outbox_id);
	waits->isnull[waits->n * put_waiting.nargs + 2] = endpoint_id == NULL;
	if (endpoint_id != NULL)
		waits->values[waits->n * put_waiting.nargs + 2] = CStringGetTextDatum(endpoint_id);
	waits->n++;
}

void
osmtalk_put_waiting(const OsmtalkWaits *waits)
{
	Datum arrays[3];

	if (waits->n == 0)
		return;
	osmtalk_make_arrays(&put_waiting, waits->values, waits->isnull, waits->n, arrays);
	osmtalk_execute(&put_waiting, arrays);
	SPI_freetuptable(SPI_tuptable);
}

/* What a function of an endpoint says. */
static bool
ask(OsmtalkStatement *statement, const char *endpoint_id)
{
	Datum values[1] = {CStringGetTextDatum(endpoint_id)};
	bool isnull;
	bool answer;

	osmtalk_execute(statement, values);
	answer = DatumGetBool(osmtalk_column(SPI_tuptable->vals[0], 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return answer;
}

bool
osmtalk_begin_probe(const char *endpoint_id)
{
	return ask(&begin_probe, endpoint_id);
}

/* ---- probes that are not made ---- */

void
osmtalk_note_unused_probe(const OsmtalkDelivery *d)
{
	UnusedProbe *probe = MemoryContextAlloc(osmtalk_delivery_context(), sizeof(*probe));

	strlcpy(probe->endpoint_id, d->endpoint_id, sizeof(probe->endpoint_id));
	dlist_push_tail(&unused_probes, &probe->node);
}

void
osmtalk_return_probes(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &unused_probes)
	{
		UnusedProbe *probe = dlist_container(UnusedProbe, node, iter.cur);

		probe->returned = ask(&return_probe, probe->endpoint_id);
	}
}

void
osmtalk_probes_returned(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &unused_probes)
	{
		UnusedProbe *probe = dlist_container(UnusedProbe, node, iter.cur);

		if (!probe->returned)
			continue;
		dlist_delete(&probe->node);
		pfree(probe);
	}
}

/* ---- what is due ---- */

/* How many; or -1, if it failed. */
static int
call(OsmtalkStatement *statement, const char *what, Datum *values)
{
	MemoryContext context = CurrentMemoryContext;
	volatile int result = -1;

	PG_TRY();
	{
		bool isnull;

		osmtalk_begin();
		if (osmtalk_lock_tables(true))
		{
			osmtalk_execute(statement, values);
			result = DatumGetInt32(osmtalk_column(SPI_tuptable->vals[0], 1, &isnull));
		}
		osmtalk_commit();
	}
	PG_CATCH();
	{
		ErrorData *error = osmtalk_take_error(context);

		ereport(LOG,
				errcode(error->sqlerrcode),
				errmsg("osmtalk: could not %s: %s", what, error->message));
		osmtalk_slot_note_error(error->message);
		FreeErrorData(error);
		result = -1;
	}
	PG_END_TRY();
	return result;
}

int
osmtalk_release_waiting(void)
{
	Datum values[1] = {Int32GetDatum(RELEASE_BATCH)};

	return call(&release_waiting, "have waiting events go", values);
}

int
osmtalk_find_waiting(void)
{
	return call(&find_waiting, "look for waiting events", NULL);
}

int
osmtalk_follow_clock(int64 set_back_by)
{
	Datum values[1] = {Float8GetDatum(set_back_by / (double) USECS_PER_SEC)};

	return call(&follow_clock, "have waiting events follow the clock", values);
}
