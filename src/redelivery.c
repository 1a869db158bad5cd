/*
 * redelivery.c
 *		Redeliveries of many events: when the worker moves some to the outbox,
 *		and what became of those.
 *
 * Which events, and how many at a time, is said in sql/redelivery.sql.  A
 * worker that is not told of a redelivery does nothing here and asks nobody.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "ownership.h"
#include "redelivery.h"
#include "statements.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* after a failure */
#define PAUSE_MS 1000

/* they go on when there was no failure for so long: one may be left out of every other step */
#define CALM_MS 2000

static OsmtalkStatement count_redelivered = {
	"osmtalk: record results",
	"UPDATE osmtalk.redelivery_counters c"
	"   SET done = c.done OPERATOR(pg_catalog.+) k.done, failed = c.failed OPERATOR(pg_catalog.+) k.failed"
	"  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) k (id, done, failed)"
	" WHERE c.redelivery_id OPERATOR(pg_catalog.=) k.id",
	3,
	{INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID}};

static OsmtalkStatement feed_redeliveries = {
	"osmtalk: redeliver events",
	"SELECT f.pause, f.moved, f.complaint FROM osmtalk.feed_redeliveries() f",
	0};

static TimestampTz next_step = DT_NOEND;
static bool failing = false;  /* the log has said so */
static TimestampTz failed_at; /* last */
static bool moved_since_then;

/* ---- what became of events ---- */

static void
grow(OsmtalkRedelivered *counts)
{
	int64 **columns[] = {&counts->ids, &counts->done, &counts->failed};

	counts->capacity = counts->capacity == 0 ? 8 : 2 * counts->capacity;
	for (int i = 0; i < lengthof(columns); i++)
		*columns[i] = *columns[i] == NULL ? palloc(counts->capacity * sizeof(int64))
										  : repalloc(*columns[i], counts->capacity * sizeof(int64));
}

/* Sorted, so that workers lock the counters of several redeliveries in the same order; there are few. */
void
osmtalk_redelivered(OsmtalkRedelivered *counts, int64 redelivery_id, bool delivered)
{
	int at = counts->n;

	while (at > 0 && counts->ids[at - 1] >= redelivery_id)
		at--;
	if (at == counts->n || counts->ids[at] != redelivery_id)
	{
		if (counts->n == counts->capacity)
			grow(counts);
		for (int i = counts->n++; i > at; i--)
		{
			counts->ids[i] = counts->ids[i - 1];
			counts->done[i] = counts->done[i - 1];
			counts->failed[i] = counts->failed[i - 1];
		}
		counts->ids[at] = redelivery_id;
		counts->done[at] = counts->failed[at] = 0;
	}
	if (delivered)
		counts->done[at]++;
	else
		counts->failed[at]++;
}

void
osmtalk_count_redelivered(const OsmtalkRedelivered *counts)
{
	Datum values[3];

	if (counts->n == 0)
		return;
	values[0] = osmtalk_int8_array(counts->ids, counts->n);
	values[1] = osmtalk_int8_array(counts->done, counts->n);
	values[2] = osmtalk_int8_array(counts->failed, counts->n);
	osmtalk_execute(&count_redelivered, values);
}

/* ---- to the outbox ---- */

void
osmtalk_redelivery_found(TimestampTz now)
{
	next_step = Min(next_step, now);
}

static void
note_failure(int sqlerrcode, const char *message)
{
	if (!failing)
		ereport(LOG,
				errcode(sqlerrcode),
				errmsg("osmtalk: redeliveries cannot go on: %s", message));
	failing = true;
	failed_at = GetCurrentTimestamp();
	moved_since_then = false;
}

/* is_over: none is under way any more. */
static void
note_success(bool moved, bool is_over)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!failing)
		return;
	moved_since_then = moved_since_then || moved;
	/* a clock that was set back must not put it off */
	failed_at = Min(failed_at, now);
	if (!is_over && (!moved_since_then || now < TimestampTzPlusMilliseconds(failed_at, CALM_MS)))
		return;
	if (moved_since_then)
		ereport(LOG, errmsg("osmtalk: redeliveries go on"));
	failing = false;
}

static void
step(void)
{
	MemoryContext context = CurrentMemoryContext;
	double pause;
	bool moved;
	char *complaint;
	bool is_over;
	bool isnull;

	osmtalk_begin();
	if (!osmtalk_lock_tables(false))
	{
		osmtalk_commit(); /* a look finds it again, if the extension is still there */
		return;
	}
	/* an event is either to be moved or moved, whichever is lost; its claim makes sure of it */
	(void) set_config_option("synchronous_commit", "off",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	osmtalk_execute(&feed_redeliveries, NULL);
	pause = DatumGetFloat8(osmtalk_column(SPI_tuptable->vals[0], 1, &is_over));
	moved = DatumGetInt64(osmtalk_column(SPI_tuptable->vals[0], 2, &isnull)) > 0;
	complaint = osmtalk_text_column(SPI_tuptable->vals[0], 3, context, NULL);
	osmtalk_commit();
	if (!is_over)
		next_step = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), (int64) pause);
	if (complaint != NULL)
		note_failure(ERRCODE_LOCK_NOT_AVAILABLE, complaint);
	else
		note_success(moved, is_over);
}

void
osmtalk_feed_redeliveries(TimestampTz now, bool allowed)
{
	MemoryContext context = CurrentMemoryContext;

	if (now < osmtalk_redelivery_next(now))
		return;
	next_step = DT_NOEND;
	if (!allowed)
		return;

	PG_TRY();
	{
		step();
	}
	PG_CATCH();
	{
		ErrorData *error = osmtalk_take_error(context);

		note_failure(error->sqlerrcode, error->message);
		FreeErrorData(error);
		next_step = TimestampTzPlusMilliseconds(now, PAUSE_MS);
	}
	PG_END_TRY();
}

TimestampTz
osmtalk_redelivery_next(TimestampTz now)
{
	/* a clock that was set back must not put it off */
	if (next_step != DT_NOEND)
		next_step = Min(next_step, TimestampTzPlusMilliseconds(now, PAUSE_MS));
	return next_step;
}
