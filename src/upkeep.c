/*
 * upkeep.c
 *		What the worker does for its database besides delivering.
 *
 * Each in a short transaction of its own: should it fail, delivery goes on.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "slot.h"
#include "statements.h"
#include "upkeep.h"

#define EXPIRE_BATCH 500

/* until those are tried again of which none could be decided: locked, or refused by a trigger of the user's */
#define STUCK_INTERVAL_MS 5000

static OsmtalkStatement not_adopted = {
	"osmtalk: count events of another database",
	"SELECT n.events, n.calls FROM osmtalk.not_adopted n",
	0};

static OsmtalkStatement find_pause = {
	"osmtalk: look whether sending is paused",
	"SELECT FROM osmtalk.paused",
	0};

static OsmtalkStatement expire_calls = {
	"osmtalk: decide overdue calls",
	"SELECT osmtalk.expire_calls($1)",
	1,
	{INT4OID}};

static void
report_not_adopted(void)
{
	static int64 last_events = 0;
	static int64 last_calls = 0;
	int64 events;
	int64 calls;
	bool isnull;

	osmtalk_begin();
	osmtalk_select(&not_adopted, NULL);
	events = DatumGetInt64(osmtalk_column(SPI_tuptable->vals[0], 1, &isnull));
	calls = DatumGetInt64(osmtalk_column(SPI_tuptable->vals[0], 2, &isnull));
	if ((events > 0 || calls > 0) && (events != last_events || calls != last_calls))
		ereport(LOG,
				errmsg("osmtalk: database \"%s\" holds " INT64_FORMAT " events and " INT64_FORMAT " undecided calls of another database, they are neither sent nor timed out",
					   get_database_name(MyDatabaseId), events, calls),
				errhint("SELECT osmtalk.adopt() takes them over, osmtalk.adopt(discard => true) drops them."));
	osmtalk_commit();
	last_events = events;
	last_calls = calls;
}

bool
osmtalk_is_paused(void)
{
	bool paused;

	osmtalk_begin();
	osmtalk_select(&find_pause, NULL);
	paused = SPI_processed > 0;
	osmtalk_commit();
	return paused;
}

void
osmtalk_report_not_adopted(void)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		report_not_adopted();
	}
	PG_CATCH();
	{
		FreeErrorData(osmtalk_take_error(context)); /* the next turn meets it too, if it lasts */
	}
	PG_END_TRY();
}

/* How many were decided. */
static int64
expire_some(void)
{
	Datum values[1] = {Int32GetDatum(EXPIRE_BATCH)};
	int64 expired;
	bool isnull;

	osmtalk_begin();
	osmtalk_execute(&expire_calls, values);
	expired = DatumGetInt64(osmtalk_column(SPI_tuptable->vals[0], 1, &isnull));
	osmtalk_commit();
	return expired;
}

long
osmtalk_expire_calls(void)
{
	MemoryContext context = CurrentMemoryContext;
	volatile int64 expired = 0;

	PG_TRY();
	{
		expired = expire_some();
	}
	PG_CATCH();
	{
		ErrorData *error = osmtalk_take_error(context);

		ereport(LOG,
				errcode(error->sqlerrcode),
				errmsg("osmtalk: could not decide overdue calls: %s", error->message));
		osmtalk_slot_note_error(error->message);
		FreeErrorData(error);
	}
	PG_END_TRY();
	if (expired == 0)
		return STUCK_INTERVAL_MS;
	return expired < EXPIRE_BATCH ? OSMTALK_OVERDUE_INTERVAL_MS : 0;
}
