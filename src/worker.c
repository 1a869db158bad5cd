/*
 * worker.c
 *		The process that delivers one database's events.
 *
 * One loop: claim → send → settle, with one place that waits, for the latch,
 * the postmaster, the sockets and the time.  Results are settled, new rows
 * found and claims made in one transaction (outbox.c); none is open while the
 * network is waited for.
 *
 * However the process ends, short of a crash, it first settles what it knows
 * and lets go of what is in flight.  Knows neither SQL nor libcurl.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "http.h"
#include "outbox.h"
#include "ownership.h"
#include "settings.h"
#include "statements.h"
#include "wakeup.h"

PG_MODULE_MAGIC;

/* pauses after a failed transaction double from the first to the second */
#define FIRST_PAUSE_MS 100
#define LONGEST_PAUSE_MS 5000

/* calls are looked at for having become overdue this often, or more often */
#define OVERDUE_INTERVAL_MS 1000

PGDLLEXPORT void osmtalk_worker_main(Datum arg);

static OsmtalkSlot *slot;
static bool attached = false;

static OsmtalkScheduler *scheduler;
static WaitEventSet *wait_set;
static int sockets_position;

/* reset on each turn of the loop */
static MemoryContext turn_context;

/* deliveries that are over and to be settled */
static dlist_head results = DLIST_STATIC_INIT(results);

/* when to do what next */
static bool reload_wanted = true;
static TimestampTz next_poll = 0;
static TimestampTz next_overdue_check = 0;
static TimestampTz turn_after = 0; /* after a failure, not before */
static int failures = 0;		   /* of turns, in succession */

/* since the worker's start */
static int64 delivered = 0;
static int64 failed = 0;

/* endpoints whose last delivery failed, so that the log says so once */
typedef struct FailingEndpoint
{
	OsmtalkEndpoint *endpoint; /* the key */
	int64 failures;
} FailingEndpoint;
static HTAB *failing_endpoints;

static char crash_file[MAXPGPATH];

static void start_up(Oid database);
static void pin_settings(void);
static void loop(void);
static bool take_turn(void);
static void recover_from_error(OsmtalkTurn *turn);
static long report_failure(const char *what);
static void quit(OsmtalkPresence presence) pg_attribute_noreturn();
static void expire_calls(void);
static bool release_rest(void);
static void send_all(dlist_head *claimed);
static void collect_results(void);
static void publish_figures(void);
static void wait_for_something(void);
static void leave(int code, Datum arg);
static void leave_slot(int code, Datum arg);

/* ---- crashes of its own ---- */

/*
 * Runs when the process is about to die of its own: leaves a file behind, so
 * that the next worker can tell an event that kills its worker from a worker
 * that was killed from outside.  Async-signal-safe.
 */
static void
note_crash(int signo)
{
	int fd = open(crash_file, O_CREAT | O_WRONLY, 0600);

	if (fd >= 0)
		close(fd);
	signal(signo, SIG_DFL);
	raise(signo);
}

static void
watch_for_crashes(Oid database)
{
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

	snprintf(crash_file, sizeof(crash_file), "pg_stat/osmtalk_crashed.%u", database);
	for (int i = 0; i < lengthof(fatal); i++)
		signal(fatal[i], note_crash);
}

/* ---- start ---- */

void
osmtalk_worker_main(Datum arg)
{
	Oid database = DatumGetObjectId(arg);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, SIG_IGN); /* but within a transaction, see statements.c */
	watch_for_crashes(database);
	BackgroundWorkerUnblockSignals();

	/* before the connection: if that fails, the launcher must hear of it */
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot = osmtalk_claim_slot(database);
	if (slot == NULL || slot->pid != 0)
	{
		LWLockRelease(osmtalk_shared->lock);
		proc_exit(0); /* somebody else is there already */
	}
	slot->pid = MyProcPid;
	slot->latch = &MyProc->procLatch;
	slot->state = OSMTALK_SLOT_STARTING;
	slot->started_at = GetCurrentTimestamp();
	slot->in_flight = 0;
	slot->pending = slot->delivered = slot->failed = 0;
	slot->cannot_record = false;
	LWLockRelease(osmtalk_shared->lock);
	before_shmem_exit(leave_slot, (Datum) 0);

	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pgstat_report_appname("osmtalk worker");
	pin_settings();

	start_up(database);
	loop();
}

/*
 * What an administrator sets for the database, the role or the server is
 * meant for sessions; these decide whether the worker works.
 */
static void
pin_settings(void)
{
	static const struct
	{
		const char *name;
		const char *value;
	} pinned[] = {
		{"role", "none"},
		{"search_path", "pg_catalog"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
#if PG_VERSION_NUM >= 170000
		{"transaction_timeout", "0"},
#endif
		/* short: results wait in memory meanwhile, and requests want to be served */
		{"lock_timeout", "500ms"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
		{"row_security", "off"},
		{"client_min_messages", "error"},
		{"session_replication_role", "origin"},
		/*
		 * Each statement takes a few rows by index.  Plans are made once, when
		 * the tables may be empty: what looks cheap then is ruinous later.
		 */
		{"jit", "off"},
		{"enable_seqscan", "off"},
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		{"plan_cache_mode", "force_generic_plan"},
	};

	for (int i = 0; i < lengthof(pinned); i++)
		SetConfigOption(pinned[i].name, pinned[i].value, PGC_SUSET, PGC_S_OVERRIDE);
}

static void
set_slot_state(OsmtalkSlotState state)
{
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot->state = state;
	LWLockRelease(osmtalk_shared->lock);
}

/*
 * Becomes the owner of the outbox; does not return if there is none.  If it
 * fails (a read-only database, a lock), says why, and ends: what was set for
 * the database when this process connected stays set for its life, so the next
 * try is for the next one.
 */
static void
attach(Oid database)
{
	bool crashed = access(crash_file, F_OK) == 0;
	bool owned_by_other = false;
	bool done = false;

	failures = slot->start_failures;
	for (int waits = 1; !done; waits++)
	{
		MemoryContextSwitchTo(turn_context);
		PG_TRY();
		{
			done = osmtalk_outbox_attach(crashed, &owned_by_other);
		}
		PG_CATCH();
		{
			(void) report_failure("osmtalk: the worker cannot start to work");
			slot->start_failures = failures;
			proc_exit(0);
		}
		PG_END_TRY();
		if (done)
			break;
		if (!owned_by_other)
			quit(OSMTALK_ABSENT);

		/* the owner before this one is on its way out */
		if (waits == 100)
			ereport(LOG, errmsg("osmtalk: %s waits for another process that owns the outbox", MyBgworkerEntry->bgw_name));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 50, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextReset(turn_context);
	failures = slot->start_failures = 0;
	(void) unlink(crash_file);
	attached = true;
	before_shmem_exit(leave, (Datum) 0);
}

static void
start_up(Oid database)
{
	turn_context = AllocSetContextCreate(TopMemoryContext, "osmtalk turn", ALLOCSET_DEFAULT_SIZES);
	attach(database);

	failing_endpoints = hash_create("osmtalk failing endpoints", 64,
									&(HASHCTL){.keysize = sizeof(OsmtalkEndpoint *), .entrysize = sizeof(FailingEndpoint)},
									HASH_ELEM | HASH_BLOBS);
	scheduler = osmtalk_scheduler_create();
	if (scheduler == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	osmtalk_scheduler_set_limits(scheduler, osmtalk_http_capacity(), osmtalk_max_in_flight_per_endpoint);

	wait_set =
#if PG_VERSION_NUM >= 170000
		CreateWaitEventSet(NULL, 3);
#else
		CreateWaitEventSet(TopMemoryContext, 3);
#endif
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	sockets_position = AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, osmtalk_http_start(), NULL, NULL);

	set_slot_state(OSMTALK_SLOT_RUNNING);
	osmtalk_wake_launcher();
	ereport(LOG,
			errmsg("osmtalk: worker for database %u started", database));
}

/* ---- the loop ---- */

static void
loop(void)
{
	turn_context = AllocSetContextCreate(TopMemoryContext, "osmtalk turn", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		bool progress = false;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			osmtalk_scheduler_set_limits(scheduler, osmtalk_http_capacity(), osmtalk_max_in_flight_per_endpoint);
			osmtalk_http_reload();
			/* they were worked out from the old intervals */
			next_poll = next_overdue_check = 0;
		}

		MemoryContextSwitchTo(turn_context);
		turn_after = Min(turn_after, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LONGEST_PAUSE_MS));
		if (GetCurrentTimestamp() >= turn_after)
			progress = take_turn();
		publish_figures();
		MemoryContextReset(turn_context);

		if (!progress)
			wait_for_something();
		osmtalk_http_work();
		collect_results();
	}
}

/*
 * A transaction with the outbox, if there is reason for one.  True if it
 * began requests.
 */
static bool
take_turn(void)
{
	OsmtalkTurn turn = {0};
	TimestampTz now = GetCurrentTimestamp();
	uint32 wake = pg_atomic_exchange_u32(&slot->wake, 0);
	bool poll;

	/* a clock that was set back must not stop the work until it has caught up */
	next_poll = Min(next_poll, TimestampTzPlusMilliseconds(now, osmtalk_poll_interval));
	next_overdue_check = Min(next_overdue_check, TimestampTzPlusMilliseconds(now, LONGEST_PAUSE_MS));
	poll = now >= Min(next_poll, next_overdue_check);

	if (wake & OSMTALK_WAKE_RELOAD)
		reload_wanted = true;
	if (wake == 0 && !poll && !reload_wanted && dlist_is_empty(&results) &&
		!(osmtalk_enabled && osmtalk_scheduler_can_pick(scheduler, now)))
		return false;

	if (now >= next_overdue_check && release_rest())
		reload_wanted = true;
	turn.settle = &results;
	turn.reload = reload_wanted;
	turn.check_overdue = now >= next_overdue_check;
	turn.claim = osmtalk_enabled;
	next_poll = TimestampTzPlusMilliseconds(now, osmtalk_poll_interval);
	if (turn.check_overdue)
		next_overdue_check = TimestampTzPlusMilliseconds(now, Min(osmtalk_poll_interval, OVERDUE_INTERVAL_MS));

	PG_TRY();
	{
		osmtalk_outbox_turn(&turn, scheduler);
	}
	PG_CATCH();
	{
		recover_from_error(&turn);
		return false;
	}
	PG_END_TRY();

	if (turn.gone)
		quit(osmtalk_outbox_presence());
	/* a termination may have cut short the wait for a standby: then nothing is sent */
	CHECK_FOR_INTERRUPTS();

	if (failures > 0)
		ereport(LOG, errmsg("osmtalk: the outbox works again, after %d failures", failures));
	failures = 0;
	reload_wanted = false;
	while (!dlist_is_empty(&results))
		osmtalk_delivery_free(dlist_container(OsmtalkDelivery, node, dlist_pop_head_node(&results)));
	if (turn.overdue)
		expire_calls();
	if (dlist_is_empty(&turn.claimed))
		return false;
	send_all(&turn.claimed);
	return true;
}

static void
note_error(const char *error)
{
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	strlcpy(slot->last_error, error, pg_mbcliplen(error, strlen(error), sizeof(slot->last_error) - 1) + 1);
	slot->last_error_at = GetCurrentTimestamp();
	LWLockRelease(osmtalk_shared->lock);
}

/* Ends the current error and transaction; returns a copy of the error. */
static ErrorData *
take_error(void)
{
	ErrorData *error;

	MemoryContextSwitchTo(turn_context);
	error = CopyErrorData();
	osmtalk_abort();
	MemoryContextSwitchTo(turn_context);
	return error;
}

/*
 * In a PG_CATCH: notes the error, and says it in the log, at the first and
 * then ever more seldom.  Returns how many milliseconds to wait before trying
 * again.
 */
static long
report_failure(const char *what)
{
	ErrorData *error = take_error();
	long pause = Min(FIRST_PAUSE_MS << Min(failures, 10), LONGEST_PAUSE_MS);

	if ((failures & (failures - 1)) == 0)
		ereport(LOG,
				errcode(error->sqlerrcode),
				errmsg("%s: %s", what, error->message),
				error->detail ? errdetail_internal("%s", error->detail) : 0);
	failures++;
	note_error(error->message);
	FreeErrorData(error);
	return pause;
}

/*
 * A turn has thrown: nothing was settled or claimed, results wait.  Everything
 * is read again at the next, so that no trace of this one is left.
 */
static void
recover_from_error(OsmtalkTurn *turn)
{
	long pause;
	OsmtalkPresence presence;

	pause = report_failure("osmtalk: nothing is sent until the outbox works again");
	osmtalk_outbox_turn_failed(turn, scheduler);
	reload_wanted = true;

	presence = osmtalk_outbox_presence();
	if (presence != OSMTALK_PRESENT)
		quit(presence);
	turn_after = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
}

/*
 * Ends the process because there is nothing for it to do: the database does
 * not have the extension, or has another one of the name, which wants a worker
 * of its own.
 */
static void
quit(OsmtalkPresence presence)
{
	bool wanted = presence == OSMTALK_REPLACED;

	if (attached)
		ereport(LOG, errmsg("osmtalk: the extension was dropped, %s ends", MyBgworkerEntry->bgw_name));
	/* what an extension that was created since has left here */
	else if (pg_atomic_exchange_u32(&slot->wake, 0) != 0)
		wanted = true;
	attached = false;
	set_slot_state(wanted ? OSMTALK_SLOT_WANTED : OSMTALK_SLOT_NO_EXTENSION);
	proc_exit(0);
}

/* ---- calls whose time is up ---- */

static void
expire_calls(void)
{
	long pause = OVERDUE_INTERVAL_MS;

	PG_TRY();
	{
		switch (osmtalk_outbox_expire_calls())
		{
			case OSMTALK_EXPIRED_ALL:
				break;
			case OSMTALK_EXPIRED_SOME:
				pause = 0;
				break;
			case OSMTALK_EXPIRED_NONE:
				/* locked, or refused by a trigger of the user's */
				pause = LONGEST_PAUSE_MS;
				break;
		}
	}
	PG_CATCH();
	{
		ErrorData *error = take_error();

		ereport(LOG,
				errcode(error->sqlerrcode),
				errmsg("osmtalk: could not decide overdue calls: %s", error->message));
		note_error(error->message);
		FreeErrorData(error);
		pause = LONGEST_PAUSE_MS;
	}
	PG_END_TRY();
	next_overdue_check = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
}

/* Claims of the worker before this one that were locked when it started; mostly none. */
static bool
release_rest(void)
{
	bool released = false;

	PG_TRY();
	{
		released = osmtalk_outbox_release_rest();
	}
	PG_CATCH();
	{
		FreeErrorData(take_error()); /* the next turn meets it too, if it lasts */
	}
	PG_END_TRY();
	return released;
}

/* ---- requests ---- */

static void
send_all(dlist_head *claimed)
{
	while (!dlist_is_empty(claimed))
		osmtalk_http_send(dlist_container(OsmtalkDelivery, node, dlist_pop_head_node(claimed)));
}

/*
 * The log hears of an endpoint when it begins to fail and when it is well
 * again; each failure is in delivery_attempts.
 */
static void
report_result(const OsmtalkDelivery *d, OsmtalkEndpoint *endpoint)
{
	FailingEndpoint *failing;
	bool found;

	if (d->error[0] == '\0')
	{
		failing = hash_search(failing_endpoints, &endpoint, HASH_FIND, NULL);
		if (failing == NULL)
			return;
		ereport(LOG,
				errmsg("osmtalk: deliveries to %s succeed again, after " INT64_FORMAT " failures",
					   osmtalk_scheduler_endpoint_name(endpoint), failing->failures));
		hash_search(failing_endpoints, &endpoint, HASH_REMOVE, NULL);
		return;
	}

	failing = hash_search(failing_endpoints, &endpoint, HASH_ENTER, &found);
	if (!found)
	{
		failing->failures = 0;
		ereport(LOG,
				errmsg("osmtalk: event %s could not be delivered to %s: %s",
					   d->event_id, osmtalk_scheduler_endpoint_name(endpoint), d->error),
				errdetail("Until a delivery there succeeds, further failures are only recorded in osmtalk.delivery_attempts."));
	}
	failing->failures++;
	note_error(d->error);
}

static void
collect_results(void)
{
	OsmtalkDelivery *d;

	while ((d = osmtalk_http_finished()) != NULL)
	{
		bool ok = d->error[0] == '\0';

		if (ok)
			delivered++;
		else
			failed++;
		report_result(d, d->ticket->endpoint);
		osmtalk_scheduler_done(scheduler, d->ticket,
							   d->answered ? OSMTALK_ANSWERED : d->refusal || d->url == NULL ? OSMTALK_NOT_SENT
																							 : OSMTALK_NO_ANSWER);
		d->ticket = NULL;
		dlist_push_tail(&results, &d->node);
	}
}

static void
publish_figures(void)
{
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot->in_flight = osmtalk_scheduler_in_flight(scheduler);
	slot->pending = osmtalk_scheduler_queued(scheduler);
	slot->delivered = delivered;
	slot->failed = failed;
	slot->cannot_record = failures > 0 && !dlist_is_empty(&results);
	LWLockRelease(osmtalk_shared->lock);
}

/* ---- waiting ---- */

/* Milliseconds from now, not below 0. */
static long
until(TimestampTz now, TimestampTz then)
{
	return TimestampDifferenceMilliseconds(now, then);
}

static void
wait_for_something(void)
{
	TimestampTz now = GetCurrentTimestamp();
	WaitEvent events[3];
	long timeout;
	long for_http = osmtalk_http_timeout();
	int64 due_at;
	int n;

	if (turn_after > now)
		timeout = until(now, turn_after);
	else
	{
		timeout = until(now, Min(next_poll, next_overdue_check));
		if (osmtalk_enabled && osmtalk_scheduler_next_due(scheduler, &due_at))
			timeout = Min(timeout, until(now, due_at));
		/*
		 * The wake-up may have come while a commit waited for a standby, which
		 * resets the latch.
		 */
		if (!dlist_is_empty(&results) || pg_atomic_read_u32(&slot->wake) != 0)
			timeout = 0;
	}
	if (for_http >= 0)
		timeout = Min(timeout, for_http);

	n = WaitEventSetWait(wait_set, timeout, events, lengthof(events), PG_WAIT_EXTENSION);
	for (int i = 0; i < n; i++)
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
}

/* ---- the end ---- */

/*
 * Settles what is known and lets go of the rest, so that an answer that came
 * is not asked for again.
 */
static void
leave(int code, Datum arg)
{
	if (!attached)
		return;
	attached = false; /* should this fail, it is not tried again */
	AbortOutOfAnyTransaction();
	osmtalk_http_work();
	collect_results();
	if (!osmtalk_outbox_leave(&results))
		ereport(LOG,
				errmsg("osmtalk: results could not be recorded at the end of %s, requests in flight are made again",
					   MyBgworkerEntry->bgw_name));
}

static void
leave_slot(int code, Datum arg)
{
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot->pid = 0;
	slot->latch = NULL;
	slot->in_flight = 0;
	if (slot->state == OSMTALK_SLOT_RUNNING || slot->state == OSMTALK_SLOT_STARTING)
		slot->state = OSMTALK_SLOT_STOPPED;
	/* an extension that was created while this process was about to leave */
	else if (slot->state == OSMTALK_SLOT_NO_EXTENSION && pg_atomic_exchange_u32(&slot->wake, 0) != 0)
		slot->state = OSMTALK_SLOT_WANTED;
	LWLockRelease(osmtalk_shared->lock);
	osmtalk_wake_launcher();
}
