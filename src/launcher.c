/*
 * launcher.c
 *		Finds the databases that have the extension, and keeps workers in each.
 *
 * Whether a database has the extension can only be seen from inside it, so a
 * worker is sent to look at each database once: at server start, when a
 * database appears, and when CREATE EXTENSION commits.  One that finds no
 * extension leaves; one that ends for any other reason is started again, at
 * once if it had been at work or was made to end, with growing pauses if it
 * never got so far by itself.
 * Where one is at work, the others that osmtalk.workers asks for join it.
 * Connects to no database; knows nothing of what workers do.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "launcher.h"
#include "settings.h"
#include "wakeup.h"

/* the databases are listed this often even if nobody says that they changed */
#define LIST_INTERVAL_MS 60000

/* a worker that ended within this time of its start is not started at once */
#define SHORT_LIFE_MS 1000
#define SHORT_LIFE_PAUSE_MS 500

/* pauses after failing to start double from the first to the second */
#define FIRST_PAUSE_MS 250
#define LONGEST_PAUSE_MS 60000

/* the longest after one that could connect and not work: it has said why, and somebody may be mending it */
#define LONGEST_CONNECTED_PAUSE_MS 4000

/* only so many databases are looked into at once, so that workers find room */
#define MAX_STARTING 4

/* The launcher's own notes on a worker that there is or may be. */
typedef struct Seat
{
	Oid oid;				/* of the database */
	int number;				/* of the worker; the first one finds out whether there is work */
	bool listed;			/* the database is still there */
	bool wanted;			/* to be looked into */
	bool got_to_work;		/* its last worker did */
	int failures;			/* starts in succession that did not get to work */
	TimestampTz started_at; /* last start */
	TimestampTz start_after;
	int pause;						/* milliseconds, until then */
	BackgroundWorkerHandle *handle; /* NULL when there is no worker of this launcher's */
} Seat;

static List *seats = NIL;

static void list_databases(bool look_again);
static long tend_seats(void);
static long tend_seat(Seat *seat, int *starting);
static bool start_worker(Seat *seat);
static void forget_launcher(int code, Datum arg);

void
osmtalk_register_launcher(void)
{
	BackgroundWorker worker = {0};

	snprintf(worker.bgw_name, BGW_MAXLEN, "osmtalk launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "osmtalk launcher");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	/* never on a standby; at its promotion */
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "osmtalk");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "osmtalk_launcher_main");
	RegisterBackgroundWorker(&worker);
}

void
osmtalk_launcher_main(Datum arg)
{
	TimestampTz list_after = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("osmtalk launcher");

	before_shmem_exit(forget_launcher, (Datum) 0);
	osmtalk_shared->launcher_latch = &MyProc->procLatch;

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		uint32 wake = pg_atomic_exchange_u32(&osmtalk_shared->launcher_wake, 0);
		long timeout;

		list_after = Min(list_after, TimestampTzPlusMilliseconds(now, LIST_INTERVAL_MS));
		if (wake != 0 || now >= list_after)
		{
			list_databases(wake & OSMTALK_WAKE_START);
			list_after = TimestampTzPlusMilliseconds(now, LIST_INTERVAL_MS);
		}
		timeout = Min(tend_seats(), TimestampDifferenceMilliseconds(now, list_after));

		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Max(timeout, 10), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

static void
forget_launcher(int code, Datum arg)
{
	osmtalk_shared->launcher_latch = NULL;
}

static Seat *
find_seat(Oid oid, int number)
{
	ListCell *lc;

	foreach(lc, seats)
	{
		Seat *seat = lfirst(lc);

		if (seat->oid == oid && seat->number == number)
			return seat;
	}
	return NULL;
}

static Seat *
add_seat(Oid oid, int number)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	Seat *seat = palloc0(sizeof(Seat));

	seat->oid = oid;
	seat->number = number;
	seat->listed = true;
	seat->wanted = true;
	seats = lappend(seats, seat);
	MemoryContextSwitchTo(old);
	return seat;
}

static void
forget_seat(Seat *seat)
{
	if (seat->handle != NULL)
		pfree(seat->handle);
	pfree(seat);
}

/* Frees the seat's slot, unless a worker is in it; false then. */
static bool
free_slot(const Seat *seat)
{
	OsmtalkSlot *slot;
	bool freed;

	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot = osmtalk_find_slot(seat->oid, seat->number);
	freed = slot == NULL || slot->pid == 0;
	if (slot != NULL && freed)
		slot->database = InvalidOid;
	LWLockRelease(osmtalk_shared->lock);
	return freed;
}

/*
 * Notes the databases that can be connected to, new ones as to be looked
 * into, and lets go of those that are gone.  With look_again, all are to be
 * looked into that have no worker.  Templates are left alone: they are there
 * to be copied.
 */
static void
list_databases(bool look_again)
{
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;
	ListCell *lc;

	foreach(lc, seats)
		((Seat *) lfirst(lc))->listed = false;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	pgstat_report_activity(STATE_RUNNING, "osmtalk: list databases");
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		Seat *first;

		if (!form->datallowconn || form->datistemplate)
			continue;
#ifdef DATCONNLIMIT_INVALID_DB
		/* what an interrupted DROP DATABASE left behind */
		if (form->datconnlimit == DATCONNLIMIT_INVALID_DB)
			continue;
#endif
		first = find_seat(form->oid, 0);
		if (first == NULL)
			first = add_seat(form->oid, 0);
		first->wanted |= look_again;
		foreach(lc, seats)
			if (((Seat *) lfirst(lc))->oid == form->oid)
				((Seat *) lfirst(lc))->listed = true;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();

	foreach(lc, seats)
	{
		Seat *seat = lfirst(lc);

		if (!seat->listed)
		{
			(void) free_slot(seat);
			seats = foreach_delete_current(seats, lc);
			forget_seat(seat);
		}
	}
}

/*
 * Where the first worker is at work, there is a seat for each of the others;
 * where it is not, or for fewer, they go once they have no worker any more.
 */
static void
set_seats(void)
{
	ListCell *lc;
	List *running = NIL;

	LWLockAcquire(osmtalk_shared->lock, LW_SHARED);
	for (int i = 0; i < osmtalk_shared->nslots; i++)
	{
		OsmtalkSlot *slot = &osmtalk_shared->slots[i];

		if (slot->database != InvalidOid && slot->number == 0 && slot->state == OSMTALK_SLOT_RUNNING && slot->pid != 0)
			running = lappend_oid(running, slot->database);
	}
	LWLockRelease(osmtalk_shared->lock);

	foreach(lc, running)
		for (int number = 1; number < osmtalk_workers; number++)
			if (find_seat(lfirst_oid(lc), number) == NULL)
				(void) add_seat(lfirst_oid(lc), number);
	foreach(lc, seats)
	{
		Seat *seat = lfirst(lc);
		pid_t pid;

		if (seat->number == 0 || (seat->number < osmtalk_workers && list_member_oid(running, seat->oid)))
			continue;
		if (seat->handle != NULL && GetBackgroundWorkerPid(seat->handle, &pid) != BGWH_STOPPED)
			continue;
		if (!free_slot(seat))
			continue;
		seats = foreach_delete_current(seats, lc);
		forget_seat(seat);
	}
	list_free(running);
}

/*
 * Starts what is to be started; returns how many milliseconds may pass until
 * there is something to see to.
 */
static long
tend_seats(void)
{
	long timeout = LIST_INTERVAL_MS;
	int starting = 0;
	ListCell *lc;

	set_seats();
	LWLockAcquire(osmtalk_shared->lock, LW_SHARED);
	for (int i = 0; i < osmtalk_shared->nslots; i++)
	{
		OsmtalkSlot *slot = &osmtalk_shared->slots[i];

		if (slot->database != InvalidOid && slot->state == OSMTALK_SLOT_STARTING)
			starting++;
	}
	LWLockRelease(osmtalk_shared->lock);

	foreach(lc, seats)
		timeout = Min(timeout, tend_seat(lfirst(lc), &starting));
	return timeout;
}

static long
tend_seat(Seat *seat, int *starting)
{
	TimestampTz now = GetCurrentTimestamp();
	OsmtalkSlot *slot;
	pid_t pid;
	bool alive;
	bool held;
	bool wanted_now;

	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot = osmtalk_find_slot(seat->oid, seat->number);
	if (slot == NULL && !seat->wanted)
	{
		/* was looked into and does not have the extension */
		LWLockRelease(osmtalk_shared->lock);
		return LIST_INTERVAL_MS;
	}

	alive = slot != NULL && slot->pid != 0;
	if (seat->handle != NULL)
	{
		BgwHandleStatus status = GetBackgroundWorkerPid(seat->handle, &pid);

		if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
			alive = true;
		else
		{
			pfree(seat->handle);
			seat->handle = NULL;
		}
	}
	if (alive)
	{
		if (slot != NULL && slot->state == OSMTALK_SLOT_RUNNING)
		{
			seat->got_to_work = true;
			seat->failures = 0;
		}
		LWLockRelease(osmtalk_shared->lock);
		return LIST_INTERVAL_MS; /* its end wakes the launcher */
	}

	if (slot != NULL && slot->state == OSMTALK_SLOT_NO_EXTENSION)
	{
		slot->database = InvalidOid;
		seat->wanted = false;
		seat->failures = 0;
		LWLockRelease(osmtalk_shared->lock);
		return LIST_INTERVAL_MS;
	}

	if (slot != NULL && (slot->state == OSMTALK_SLOT_STARTING || slot->state == OSMTALK_SLOT_RUNNING || slot->state == OSMTALK_SLOT_STOPPED) && !seat->wanted)
	{
		/* its worker has ended: work out when to start the next */
		int pause = 0;

		if (slot->terminated && !seat->got_to_work)
			pause = SHORT_LIFE_PAUSE_MS;
		else if (!seat->got_to_work)
		{
			pause = FIRST_PAUSE_MS << Min(seat->failures, 8);
			pause = Min(pause, slot->start_failures > 0 ? LONGEST_CONNECTED_PAUSE_MS : LONGEST_PAUSE_MS);
			seat->failures++;
		}
		else if (!TimestampDifferenceExceeds(seat->started_at, now, SHORT_LIFE_MS))
			pause = SHORT_LIFE_PAUSE_MS;
		slot->state = OSMTALK_SLOT_STOPPED;
		seat->pause = pause;
		seat->start_after = TimestampTzPlusMilliseconds(now, pause);
		seat->wanted = true;
	}

	/* something has happened for which the pause need not be waited for */
	wanted_now = slot != NULL && slot->state == OSMTALK_SLOT_WANTED;
	/* the first one's slot is there as long as any other's */
	slot = osmtalk_find_slot(seat->oid, 0);
	held = slot != NULL && osmtalk_slot_is_held(slot);
	LWLockRelease(osmtalk_shared->lock);

	if (wanted_now)
		seat->start_after = now;
	if (held)
		return 1000; /* letting go wakes the launcher; a holder that died does not */
	/* a clock that was set back must not prolong the pause */
	seat->start_after = Min(seat->start_after, TimestampTzPlusMilliseconds(now, seat->pause));
	if (now < seat->start_after)
		return TimestampDifferenceMilliseconds(now, seat->start_after);
	if (*starting >= MAX_STARTING)
		return 1000;
	if (!start_worker(seat))
	{
		seat->pause = 1000;
		seat->start_after = TimestampTzPlusMilliseconds(now, seat->pause);
		return 1000;
	}
	(*starting)++;
	return LIST_INTERVAL_MS;
}

/*
 * Starts a worker; false if there is no slot or no process for it.
 */
static bool
start_worker(Seat *seat)
{
	static bool complained = false;
	BackgroundWorker worker = {0};
	MemoryContext old;
	OsmtalkSlot *slot;
	OsmtalkSlotState before = OSMTALK_SLOT_WANTED;
	bool started = false;

	if (seat->number == 0)
		snprintf(worker.bgw_name, BGW_MAXLEN, "osmtalk worker for database %u", seat->oid);
	else
		snprintf(worker.bgw_name, BGW_MAXLEN, "osmtalk worker %d for database %u", seat->number, seat->oid);
	snprintf(worker.bgw_type, BGW_MAXLEN, "osmtalk worker");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	/* restarting is the launcher's business: it knows whether a database wants one */
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "osmtalk");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "osmtalk_load_worker");
	worker.bgw_main_arg = ObjectIdGetDatum(seat->oid);
	memcpy(worker.bgw_extra, &seat->number, sizeof(seat->number));
	worker.bgw_notify_pid = MyProcPid;

	/* the state is set before the worker can set it */
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot = osmtalk_claim_slot(seat->oid, seat->number);
	if (slot != NULL)
	{
		before = slot->state;
		slot->state = OSMTALK_SLOT_STARTING;
	}
	LWLockRelease(osmtalk_shared->lock);

	if (slot != NULL)
	{
		old = MemoryContextSwitchTo(TopMemoryContext);
		started = RegisterDynamicBackgroundWorker(&worker, &seat->handle);
		MemoryContextSwitchTo(old);
	}
	if (started)
	{
		complained = false;
		seat->started_at = GetCurrentTimestamp();
		seat->got_to_work = false;
		seat->wanted = false;
		return true;
	}

	seat->handle = NULL;
	if (slot != NULL)
	{
		LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
		slot->state = OSMTALK_SLOT_NO_PROCESS;
		LWLockRelease(osmtalk_shared->lock);
	}
	if (!complained && before != OSMTALK_SLOT_NO_PROCESS)
	{
		complained = true;
		ereport(LOG,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("osmtalk: no free background worker for database %u, its events queue", seat->oid),
				errhint("Increase max_worker_processes."));
	}
	return false;
}
