/*
 * wakeup.c
 *		Shared memory: one slot per worker, and the wake-up at commit.
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
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "endpoint.h"
#include "nested.h"
#include "settings.h"
#include "tenant.h"
#include "wakeup.h"

PG_FUNCTION_INFO_V1(osmtalk_wake_worker);
PG_FUNCTION_INFO_V1(osmtalk_start_worker);
PG_FUNCTION_INFO_V1(osmtalk_pause_changed);
PG_FUNCTION_INFO_V1(osmtalk_wake_for_waiting);
PG_FUNCTION_INFO_V1(osmtalk_endpoint_left_alone);
PG_FUNCTION_INFO_V1(osmtalk_worker_slots);

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
osmtalk_find_slot(Oid database, int number)
{
	for (int i = 0; i < osmtalk_shared->nslots; i++)
	{
		OsmtalkSlot *slot = &osmtalk_shared->slots[i];

		if (slot->database == database && (slot->number == number || database == InvalidOid))
			return slot;
	}
	return NULL;
}

/*
 * That worker's slot, a fresh one in state WANTED if it had none; NULL if
 * all are taken.
 */
OsmtalkSlot *
osmtalk_claim_slot(Oid database, int number)
{
	OsmtalkSlot *slot = osmtalk_find_slot(database, number);

	if (slot == NULL && (slot = osmtalk_find_slot(InvalidOid, 0)) != NULL)
	{
		slot->state = OSMTALK_SLOT_WANTED;
		slot->pid = 0;
		slot->latch = NULL;
		slot->holder = 0;
		slot->terminated = false;
		slot->start_failures = 0;
		slot->unfit = false;
		slot->last_error_at = 0;
		slot->last_error[0] = '\0';
		slot->library[0] = '\0';
		pg_atomic_write_u32(&slot->wake, 0);
		slot->number = number;
		slot->database = database;
	}
	return slot;
}

bool
osmtalk_note_unfit(Oid database, int number, const char *reason)
{
	OsmtalkSlot *slot;
	bool news = false;

	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot = osmtalk_find_slot(database, number);
	if (slot != NULL)
	{
		char before[OSMTALK_ERROR_LEN];

		strlcpy(before, slot->unfit ? slot->last_error : "", sizeof(before));
		strlcpy(slot->last_error, reason, pg_mbcliplen(reason, strlen(reason), sizeof(slot->last_error) - 1) + 1);
		slot->last_error_at = GetCurrentTimestamp();
		slot->unfit = true;
		news = strcmp(before, slot->last_error) != 0;
	}
	LWLockRelease(osmtalk_shared->lock);
	return news;
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
	watch_transaction_end();
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < osmtalk_shared->nslots; i++)
	{
		OsmtalkSlot *slot = &osmtalk_shared->slots[i];

		if (slot->database != database)
			continue;
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
 * The search for the slots takes no lock: a commit is a hot path.  A slot that
 * changes hands under it costs a wake-up of no use, or one that the poll
 * makes up for.  Which worker it is for is seen in the rows alone.
 */
static void
wake_workers(uint32 wake)
{
	for (int i = 0; i < osmtalk_shared->nslots; i++)
	{
		OsmtalkSlot *slot = &osmtalk_shared->slots[i];
		Latch *latch;

		if (slot->database != MyDatabaseId || (latch = slot->latch) == NULL)
			continue;
		/* set already and not yet seen: the worker is on its way */
		if ((pg_atomic_fetch_or_u32(&slot->wake, wake) & wake) != wake)
			SetLatch(latch);
	}
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	uint32 wake = wake_wanted;

	/* who commits it later will not know; rows alone are found by the worker's poll */
	if (event == XACT_EVENT_PRE_PREPARE && (wake & OSMTALK_WAKE_START) != 0)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot PREPARE a transaction that asks for an osmtalk worker"),
				errdetail("CREATE EXTENSION osmtalk, osmtalk.adopt() and osmtalk.resume() do."));
	/* by XACT_EVENT_COMMIT the transaction is visible to others */
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	wake_wanted = 0;
	if (holds_databases)
		release_databases();
	if (event != XACT_EVENT_COMMIT || wake == 0)
		return;

	if (wake & OSMTALK_WAKE_UPDATE)
		wake |= OSMTALK_WAKE_START;
	if (wake & OSMTALK_WAKE_START)
	{
		OsmtalkSlot *slot;

		LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
		slot = osmtalk_claim_slot(MyDatabaseId, 0);
		if (slot != NULL)
		{
			if (slot->pid == 0 && (slot->state == OSMTALK_SLOT_NO_EXTENSION || slot->unfit))
				slot->state = OSMTALK_SLOT_WANTED;
			/* for a worker that is looking, and has looked before this commit */
			pg_atomic_fetch_or_u32(&slot->wake, OSMTALK_WAKE_START);
		}
		else
			pg_atomic_fetch_or_u32(&osmtalk_shared->launcher_wake, OSMTALK_WAKE_START);
		LWLockRelease(osmtalk_shared->lock);
	}
	if (wake & (OSMTALK_WAKE_START | OSMTALK_WAKE_LAUNCHER))
		osmtalk_wake_launcher();
	/* there is no hurry to find what is not to be sent */
	if (!osmtalk_enabled)
		wake &= ~OSMTALK_WAKE_LOOK;
	wake &= OSMTALK_WAKE_LOOK | OSMTALK_WAKE_RELOAD | OSMTALK_WAKE_PAUSE | OSMTALK_WAKE_WAITING | OSMTALK_WAKE_LEAVE_ALONE_ANY;
	if (wake != 0)
		wake_workers(wake);
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

	if (!CALLED_AS_TRIGGER(fcinfo) || !osmtalk_is_own_table(trigger->tg_relation, "outbox") ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
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

Datum
osmtalk_wake_for_waiting(PG_FUNCTION_ARGS)
{
	osmtalk_wake_at_commit(OSMTALK_WAKE_WAITING);
	PG_RETURN_VOID();
}

/*
 * After an endpoint's row was updated, so that its events have to wait.
 */
Datum
osmtalk_endpoint_left_alone(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	char name[OSMTALK_ENDPOINT_LEN];
	AttrNumber column;
	TupleDesc desc;
	Datum value;
	text *url;
	bool isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) || !osmtalk_is_own_table(trigger->tg_relation, "endpoints") ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("this function can only be called as the trigger of osmtalk.endpoints"));

	desc = RelationGetDescr(trigger->tg_relation);
	column = SPI_fnumber(desc, "url");
	if (column < 1)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("column \"url\" does not exist"));
	value = heap_getattr(trigger->tg_newtuple, column, desc, &isnull);
	if (!isnull)
	{
		url = DatumGetTextPP(value);
		osmtalk_wake_at_commit(OSMTALK_WAKE_LEAVE_ALONE(osmtalk_endpoint_of(VARDATA_ANY(url), VARSIZE_ANY_EXHDR(url), name)));
	}
	return PointerGetDatum(NULL);
}

/*
 * After a row of osmtalk.paused was inserted or deleted, or all of them were.
 */
Datum
osmtalk_pause_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !osmtalk_is_own_table(trigger->tg_relation, "paused") ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("this function can only be called as the trigger of osmtalk.paused"));
	osmtalk_wake_at_commit(TRIGGER_FIRED_BY_INSERT(trigger->tg_event)
							   ? OSMTALK_WAKE_PAUSE
							   : OSMTALK_WAKE_PAUSE | OSMTALK_WAKE_START);
	return PointerGetDatum(NULL);
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
	if (slot->unfit)
		return psprintf("stopped: %s", slot->last_error);
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

#define SLOT_COLUMNS 10

static void
put_slot(ReturnSetInfo *set, const OsmtalkSlot *slot, bool sees_all)
{
	Datum values[SLOT_COLUMNS] = {0};
	bool nulls[SLOT_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	nulls[0] = nulls[1] = nulls[3] = false;
	values[0] = Int32GetDatum(slot ? slot->number : 0);
	values[1] = Int32GetDatum(osmtalk_workers);
	values[3] = CStringGetTextDatum(osmtalk_shared == NULL
										? "not preloaded: add osmtalk to shared_preload_libraries and restart the server"
										: slot_state(slot));
	if (slot != NULL && slot->pid != 0)
	{
		values[2] = Int32GetDatum(slot->pid);
		values[4] = TimestampTzGetDatum(slot->started_at);
		values[5] = Int32GetDatum(slot->in_flight);
		values[6] = Int64GetDatum(slot->delivered);
		values[7] = Int64GetDatum(slot->failed);
		memset(nulls, false, 5);
		memset(nulls + 5, !sees_all, 3);
	}
	if (sees_all && slot != NULL && slot->last_error_at != 0)
	{
		values[8] = CStringGetTextDatum(slot->last_error);
		values[9] = TimestampTzGetDatum(slot->last_error_at);
		nulls[8] = nulls[9] = false;
	}
	tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
}

Datum
osmtalk_worker_slots(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	bool sees_all = osmtalk_tenant_sees_all();
	OsmtalkSlot *copies = NULL;
	int n = 0;

	InitMaterializedSRF(fcinfo, 0);
	if (set->setDesc->natts != SLOT_COLUMNS)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("function osmtalk.worker_slots() is not of the version of the library, %s", OSMTALK_VERSION),
				errhint("ALTER EXTENSION osmtalk UPDATE; if the library is the older one, restart the server."));
	if (osmtalk_shared != NULL)
	{
		copies = palloc(osmtalk_shared->nslots * sizeof(OsmtalkSlot));
		LWLockAcquire(osmtalk_shared->lock, LW_SHARED);
		for (int i = 0; i < osmtalk_shared->nslots; i++)
			if (osmtalk_shared->slots[i].database == MyDatabaseId)
				memcpy(&copies[n++], &osmtalk_shared->slots[i], sizeof(OsmtalkSlot));
		LWLockRelease(osmtalk_shared->lock);
	}
	for (int i = 0; i < n; i++)
		put_slot(set, &copies[i], sees_all);
	if (n == 0)
		put_slot(set, NULL, sees_all);
	return (Datum) 0;
}
