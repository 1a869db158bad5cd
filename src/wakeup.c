/*
 * wakeup.c
 *		Shared memory: one slot per database, and the wake-up at commit.
 *
 * A statement that enqueues only sets a flag in its own process; when its
 * transaction commits, once, the worker's latch is set.  That is a hint: what
 * it misses (a prepared transaction committed elsewhere, a crash in between)
 * the worker's poll finds.  Knows nothing of SQL or HTTP.
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "settings.h"
#include "wakeup.h"

PG_FUNCTION_INFO_V1(osmtalk_wake_worker);
PG_FUNCTION_INFO_V1(osmtalk_start_worker);
PG_FUNCTION_INFO_V1(osmtalk_worker_slot);

OsmtalkShared *osmtalk_shared = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* what the current transaction asks for if it commits */
static uint32 wake_wanted = 0;

/* whether it keeps workers out of databases */
static bool holds_databases = false;

static void request_shared_memory(void);
static void start_shared_memory(void);
static void at_transaction_end(XactEvent event, void *arg);

/* ---- set-up ---- */

/*
 * As many databases can have a worker as there are background workers; some
 * slots more, so that one that finds none free can say so.
 */
static int
slot_count(void)
{
	return max_worker_processes + 8;
}

static Size
shared_size(void)
{
	return add_size(offsetof(OsmtalkShared, slots), mul_size(slot_count(), sizeof(OsmtalkSlot)));
}

void
osmtalk_define_shared_memory(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_shared_memory;
}

static void
request_shared_memory(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("osmtalk", 1);
}

static void
start_shared_memory(void)
{
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	osmtalk_shared = ShmemInitStruct("osmtalk", shared_size(), &found);
	if (!found)
	{
		memset(osmtalk_shared, 0, shared_size());
		osmtalk_shared->lock = &(GetNamedLWLockTranche("osmtalk"))->lock;
		osmtalk_shared->nslots = slot_count();
		pg_atomic_init_u32(&osmtalk_shared->launcher_wake, 0);
		for (int i = 0; i < osmtalk_shared->nslots; i++)
			pg_atomic_init_u32(&osmtalk_shared->slots[i].wake, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* ---- slots ---- */

OsmtalkSlot *
osmtalk_find_slot(Oid database)
{
	for (int i = 0; i < osmtalk_shared->nslots; i++)
		if (osmtalk_shared->slots[i].database == database)
			return &osmtalk_shared->slots[i];
	return NULL;
}

/*
 * The database's slot, a fresh one in state WANTED if it had none; NULL if
 * all are taken.
 */
OsmtalkSlot *
osmtalk_claim_slot(Oid database)
{
	OsmtalkSlot *slot = osmtalk_find_slot(database);

	if (slot == NULL && (slot = osmtalk_find_slot(InvalidOid)) != NULL)
	{
		slot->state = OSMTALK_SLOT_WANTED;
		slot->pid = 0;
		slot->latch = NULL;
		slot->holder = 0;
		slot->start_failures = 0;
		slot->last_error_at = 0;
		slot->last_error[0] = '\0';
		pg_atomic_write_u32(&slot->wake, 0);
		slot->database = database;
	}
	return slot;
}

/*
 * Whether a session's DDL still needs the database free of its worker.  A
 * holder that died without letting go holds nothing.
 */
bool
osmtalk_slot_is_held(OsmtalkSlot *slot)
{
	return slot->holder != 0 && BackendPidGetProc(slot->holder) != NULL;
}

void
osmtalk_wake_launcher(void)
{
	Latch *latch = osmtalk_shared->launcher_latch;

	pg_atomic_fetch_or_u32(&osmtalk_shared->launcher_wake, OSMTALK_WAKE_LAUNCHER);
	if (latch != NULL)
		SetLatch(latch);
}

/* ---- the wake-up at commit ---- */

/*
 * Registers the callback, once per process, however many transactions it
 * serves.
 */
static void
watch_transaction_end(void)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(at_transaction_end, NULL);
		registered = true;
	}
}

void
osmtalk_wake_at_commit(uint32 wake)
{
	if (osmtalk_shared == NULL)
		return;
	watch_transaction_end();
	wake_wanted |= wake;
}

void
osmtalk_hold_database(Oid database)
{
	OsmtalkSlot *slot;

	watch_transaction_end();
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot = osmtalk_find_slot(database);
	if (slot != NULL)
	{
		slot->holder = MyProcPid;
		holds_databases = true;
		/* the worker takes its pid out under this lock, so the pid is its own */
		if (slot->pid != 0)
			kill(slot->pid, SIGTERM);
	}
	LWLockRelease(osmtalk_shared->lock);
}

static void
release_databases(void)
{
	holds_databases = false;
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < osmtalk_shared->nslots; i++)
		if (osmtalk_shared->slots[i].holder == MyProcPid)
			osmtalk_shared->slots[i].holder = 0;
	LWLockRelease(osmtalk_shared->lock);
	osmtalk_wake_launcher();
}

/*
 * The search for the slot takes no lock: a commit is a hot path.  A slot that
 * changes hands under it costs a wake-up of no use, or one that the poll
 * makes up for.
 */
static void
wake_worker(uint32 wake)
{
	OsmtalkSlot *slot = osmtalk_find_slot(MyDatabaseId);
	Latch *latch;

	if (slot == NULL || (latch = slot->latch) == NULL)
		return;
	/* set already and not yet seen: the worker is on its way */
	if ((pg_atomic_fetch_or_u32(&slot->wake, wake) & wake) != wake)
		SetLatch(latch);
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	uint32 wake = wake_wanted;

	/* by XACT_EVENT_COMMIT the transaction is visible to others */
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	wake_wanted = 0;
	if (holds_databases)
		release_databases();
	if (event != XACT_EVENT_COMMIT || wake == 0)
		return;

	if (wake & OSMTALK_WAKE_START)
	{
		OsmtalkSlot *slot;

		LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
		slot = osmtalk_claim_slot(MyDatabaseId);
		if (slot != NULL)
		{
			if (slot->pid == 0 && slot->state == OSMTALK_SLOT_NO_EXTENSION)
				slot->state = OSMTALK_SLOT_WANTED;
			/* for a worker that is looking, and has looked before this commit */
			pg_atomic_fetch_or_u32(&slot->wake, OSMTALK_WAKE_LOOK);
		}
		else
			pg_atomic_fetch_or_u32(&osmtalk_shared->launcher_wake, OSMTALK_WAKE_START);
		LWLockRelease(osmtalk_shared->lock);
	}
	if (wake & (OSMTALK_WAKE_START | OSMTALK_WAKE_LAUNCHER))
		osmtalk_wake_launcher();
	if (wake & (OSMTALK_WAKE_LOOK | OSMTALK_WAKE_RELOAD))
		wake_worker(wake & (OSMTALK_WAKE_LOOK | OSMTALK_WAKE_RELOAD));
}

/* ---- SQL ---- */

/*
 * Before a row is inserted into the outbox.  One that brings another
 * transaction's id was copied (a restored dump): the worker's look by
 * transaction would pass it over.
 */
Datum
osmtalk_wake_worker(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	AttrNumber column;
	TupleDesc desc;
	Datum xid;
	bool isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("this function can only be called as the outbox's own trigger"));

	desc = RelationGetDescr(trigger->tg_relation);
	column = SPI_fnumber(desc, "xid");
	if (column < 1)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("column \"xid\" does not exist"));
	xid = heap_getattr(trigger->tg_trigtuple, column, desc, &isnull);
	osmtalk_wake_at_commit(!isnull && FullTransactionIdEquals(DatumGetFullTransactionId(xid), GetTopFullTransactionId())
							   ? OSMTALK_WAKE_LOOK
							   : OSMTALK_WAKE_RELOAD);
	return PointerGetDatum(trigger->tg_trigtuple);
}

Datum
osmtalk_start_worker(PG_FUNCTION_ARGS)
{
	if (osmtalk_shared == NULL)
		ereport(WARNING,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("osmtalk is not preloaded: events queue, nothing is sent"),
				errhint("Add osmtalk to shared_preload_libraries and restart the server."));
	osmtalk_wake_at_commit(OSMTALK_WAKE_START | OSMTALK_WAKE_RELOAD);
	PG_RETURN_VOID();
}

/* Why a database has no worker, or what its worker is doing. */
static const char *
slot_state(const OsmtalkSlot *slot)
{
	if (slot == NULL)
		return RecoveryInProgress() ? "standby: starts after promotion" : "no worker: the launcher has not started one";
	if (slot->pid != 0 && slot->state == OSMTALK_SLOT_RUNNING)
	{
		if (slot->cannot_record)
			return "waiting: results cannot be recorded";
		return osmtalk_enabled ? "running" : "disabled";
	}
	switch (slot->state)
	{
		case OSMTALK_SLOT_NO_PROCESS:
			return "no worker: no background worker process is free, see max_worker_processes";
		case OSMTALK_SLOT_STOPPED:
			return slot->holder != 0 ? "stopped: makes way for DDL" : slot->start_failures > 0 ? "stopped: cannot work, see last_error; will be restarted"
																							   : "stopped: will be restarted";
		default:
			return "starting";
	}
}

Datum
osmtalk_worker_slot(PG_FUNCTION_ARGS)
{
	TupleDesc tupdesc;
	Datum values[9] = {0};
	bool nulls[9];
	OsmtalkSlot slot;
	bool found = false;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	memset(nulls, true, sizeof(nulls));

	if (osmtalk_shared != NULL)
	{
		OsmtalkSlot *shared;

		LWLockAcquire(osmtalk_shared->lock, LW_SHARED);
		shared = osmtalk_find_slot(MyDatabaseId);
		if (shared != NULL)
		{
			memcpy(&slot, shared, sizeof(slot));
			found = true;
		}
		LWLockRelease(osmtalk_shared->lock);
	}

	nulls[1] = false;
	if (osmtalk_shared == NULL)
		values[1] = CStringGetTextDatum("not preloaded: add osmtalk to shared_preload_libraries and restart the server");
	else
		values[1] = CStringGetTextDatum(slot_state(found ? &slot : NULL));

	if (found && slot.pid != 0)
	{
		values[0] = Int32GetDatum(slot.pid);
		values[2] = TimestampTzGetDatum(slot.started_at);
		values[3] = Int32GetDatum(slot.in_flight);
		values[4] = Int64GetDatum(slot.pending);
		values[5] = Int64GetDatum(slot.delivered);
		values[6] = Int64GetDatum(slot.failed);
		memset(nulls, false, 7);
	}
	if (found && slot.last_error_at != 0)
	{
		values[7] = CStringGetTextDatum(slot.last_error);
		values[8] = TimestampTzGetDatum(slot.last_error_at);
		nulls[7] = nulls[8] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls)));
}
