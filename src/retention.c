/*
 * retention.c
 *		When the worker applies the retention.
 *
 * Removing old events must never hold up the sending of new ones.  So it is
 * done in steps of some milliseconds with pauses between them, each in its
 * own transaction, which waits for no lock longer than a moment; what cannot
 * be done now is tried again later.  What a step does is in
 * sql/retention.sql; this file knows nothing of it, nor of the outbox.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "ownership.h"
#include "retention.h"
#include "settings.h"
#include "statements.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* while there is something to remove; a sixth of the worker's time or so */
#define STEP_INTERVAL_MS 30

/* while there is nothing, or a hundredth of a short retention */
#define INTERVAL_MS 60000
#define SHORTEST_INTERVAL_MS 500

static OsmtalkStatement apply_retention = {
	"osmtalk: remove old events",
	"SELECT osmtalk.apply_retention()",
	0};

static TimestampTz next_step = 0;
static bool failing = false; /* the log has said so */

static int64
interval_ms(void)
{
	int64 hundredth = (int64) osmtalk_retention * 1000 / 100;

	if (osmtalk_retention == 0)
		return INTERVAL_MS;
	return Min(Max(hundredth, SHORTEST_INTERVAL_MS), INTERVAL_MS);
}

static void
step(TimestampTz now)
{
	int64 done;
	bool isnull;

	if (now < osmtalk_retention_next(now))
		return;
	next_step = TimestampTzPlusMilliseconds(now, interval_ms());

	osmtalk_begin();
	if (!osmtalk_lock_tables(false))
	{
		osmtalk_commit();
		return;
	}
	/* its locks must not be kept while a disk or a standby is waited for, and nothing depends on it */
	(void) set_config_option("synchronous_commit", "off",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	osmtalk_execute(&apply_retention, NULL);
	done = DatumGetInt64(osmtalk_column(SPI_tuptable->vals[0], 1, &isnull));
	osmtalk_commit();
	if (done > 0)
		next_step = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), STEP_INTERVAL_MS);
	if (failing)
		ereport(LOG, errmsg("osmtalk: old events are removed again"));
	failing = false;
}

void
osmtalk_apply_retention(TimestampTz now)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		step(now);
	}
	PG_CATCH();
	{
		ErrorData *error = osmtalk_take_error(context);

		if (!failing)
			ereport(LOG,
					errcode(error->sqlerrcode),
					errmsg("osmtalk: old events could not be removed: %s", error->message));
		FreeErrorData(error);
		failing = true;
		next_step = TimestampTzPlusMilliseconds(now, interval_ms());
	}
	PG_END_TRY();
}

TimestampTz
osmtalk_retention_next(TimestampTz now)
{
	/* a clock that was set back, or a shorter retention, must not put it off */
	next_step = Min(next_step, TimestampTzPlusMilliseconds(now, interval_ms()));
	return next_step;
}
