/*
 * ring.c
 *		Which slot of the ring a new event goes to, and which slots are over.
 *
 * Time is cut into periods of a tenth of osmtalk.retention, and the periods
 * take turns in 16 slots.  So the slot of an event follows from the clock
 * alone: enqueuing reads no table for it and waits for nobody, and a slot
 * always exists.  When a slot's turn comes again, its old events have been
 * over for several periods; sql/retention.sql empties it in that time.  If
 * that fails, or the clock or the setting jumps, old and new events share a
 * slot, and it is emptied once all of them are old: later, never earlier.
 *
 * Knows no table.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "ring.h"
#include "settings.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(osmtalk_current_slot);
PG_FUNCTION_INFO_V1(osmtalk_slot_is_over);

#define PERIODS_KEPT 10

/* while events are kept for ever */
#define DEFAULT_PERIOD (3 * USECS_PER_DAY)

static int64
period(void)
{
	if (osmtalk_retention == 0)
		return DEFAULT_PERIOD;
	return Max(osmtalk_retention * USECS_PER_SEC / PERIODS_KEPT, USECS_PER_SEC);
}

/* The period of a time, counted from the Unix epoch. */
static int64
period_number(TimestampTz at)
{
	int64 microseconds = at + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	return Max(microseconds, 0) / period();
}

/*
 * The same throughout a transaction, even if the setting changes within it:
 * an event and its outbox row take the slot each by itself.
 */
Datum
osmtalk_current_slot(PG_FUNCTION_ARGS)
{
	static TimestampTz of_transaction = DT_NOBEGIN;
	static int16 slot;
	TimestampTz begun = GetCurrentTransactionStartTimestamp();

	if (begun != of_transaction)
	{
		slot = period_number(begun) % OSMTALK_SLOTS;
		of_transaction = begun;
	}
	PG_RETURN_INT16(slot);
}

/*
 * Whether the slot's last period ended longer ago than the retention, and a
 * period more: what was delivered a little after its period is old then, too.
 */
Datum
osmtalk_slot_is_over(PG_FUNCTION_ARGS)
{
	int16 slot = PG_GETARG_INT16(0);
	int64 kept = osmtalk_retention * USECS_PER_SEC;
	int64 periods_ago;

	if (osmtalk_retention == 0 || slot < 0 || slot >= OSMTALK_SLOTS)
		PG_RETURN_BOOL(false);
	periods_ago = (period_number(GetCurrentTimestamp()) + OSMTALK_SLOTS - slot) % OSMTALK_SLOTS;
	PG_RETURN_BOOL((periods_ago - 2) * period() >= kept);
}
