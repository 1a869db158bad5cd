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

#include <signal.h>

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "crash.h"
#include "http.h"
#include "outbox.h"
#include "ownership.h"
#include "retention.h"
#include "settings.h"
#include "slot.h"
#include "statements.h"

PG_MODULE_MAGIC;

/* pauses after a failed transaction double from the first to the second */
#define FIRST_PAUSE_MS 100
#define LONGEST_PAUSE_MS 5000

/* calls are looked at for having become overdue this often, or more often */
#define OVERDUE_INTERVAL_MS 1000

/* and for rows of another database this often, while there is nothing to send */
#define ADOPTED_INTERVAL_MS 5000

PGDLLEXPORT void osmtalk_worker_main(Datum arg);

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
static TimestampTz next_adopted_check = 0;
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

static void start_up(Oid database);
static void loop(void);
static bool take_turn(void);
static void recover_from_error(OsmtalkTurn *turn);
static long report_failure(const char *what);
static void quit(OsmtalkPresence presence);
static void expire_calls(void);
static void apply_retention(void);
static bool release_rest(void);
static void send_all(dlist_head *claimed);
static void collect_results(void);
static void publish_figures(void);
static void wait_for_something(void);
static void leave(int code, Datum arg);

/* ---- start ---- */

void
osmtalk_worker_main(Datum arg)
{
	Oid database = DatumGetObjectId(arg);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, SIG_IGN); /* but within a transaction, see statements.c */
	osmtalk_crash_watch(database);
	BackgroundWorkerUnblockSignals();

	/* before the connection: if that fails, the launcher must hear of it */
	if (!osmtalk_slot_enter(database))
		proc_exit(0); /* somebody else is there already */

	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pgstat_report_appname("osmtalk worker");
	osmtalk_pin_settings();

	start_up(database);
	loop();
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
	bool crashed = osmtalk_crash_noted();
	bool owned_by_other = false;
	bool done = false;

	failures = osmtalk_slot_start_failures();
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
			osmtalk_slot_set_start_failures(failures);
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
	failures = 0;
	osmtalk_slot_set_start_failures(0);
	osmtalk_crash_forget();
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

	osmtalk_slot_set_state(OSMTALK_SLOT_RUNNING);
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
		apply_retention();
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
	uint32 wake = osmtalk_slot_take_wake();
	bool poll;

	/* a clock that was set back must not stop the work until it has caught up */
	next_poll = Min(next_poll, TimestampTzPlusMilliseconds(now, osmtalk_poll_interval));
	next_overdue_check = Min(next_overdue_check, TimestampTzPlusMilliseconds(now, LONGEST_PAUSE_MS));
	next_adopted_check = Min(next_adopted_check, TimestampTzPlusMilliseconds(now, ADOPTED_INTERVAL_MS));
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
	/* a look at all of the outbox: when it is short */
	turn.check_adopted = now >= next_adopted_check && osmtalk_scheduler_queued(scheduler) == 0;
	if (turn.check_adopted)
		next_adopted_check = TimestampTzPlusMilliseconds(now, ADOPTED_INTERVAL_MS);
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
	osmtalk_slot_note_error(error->message);
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
	else if (osmtalk_slot_take_wake() != 0)
		wanted = true;
	attached = false;
	osmtalk_slot_set_state(wanted ? OSMTALK_SLOT_WANTED : OSMTALK_SLOT_NO_EXTENSION);
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
		osmtalk_slot_note_error(error->message);
		FreeErrorData(error);
		pause = LONGEST_PAUSE_MS;
	}
	PG_END_TRY();
	next_overdue_check = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
}

/* ---- events that are old ---- */

static void
apply_retention(void)
{
	PG_TRY();
	{
		osmtalk_retention_step(GetCurrentTimestamp());
	}
	PG_CATCH();
	{
		ErrorData *error = take_error();

		if (osmtalk_retention_failed(GetCurrentTimestamp()))
			ereport(LOG,
					errcode(error->sqlerrcode),
					errmsg("osmtalk: old events could not be removed: %s", error->message));
		FreeErrorData(error);
	}
	PG_END_TRY();
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
	osmtalk_slot_note_error(d->error);
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
	osmtalk_slot_publish(osmtalk_scheduler_in_flight(scheduler), osmtalk_scheduler_queued(scheduler),
						 delivered, failed, failures > 0 && !dlist_is_empty(&results));
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
		timeout = until(now, Min(Min(next_poll, next_overdue_check), osmtalk_retention_next(now)));
		if (osmtalk_enabled && osmtalk_scheduler_next_due(scheduler, &due_at))
			timeout = Min(timeout, until(now, due_at));
		/*
		 * The wake-up may have come while a commit waited for a standby, which
		 * resets the latch.
		 */
		if (!dlist_is_empty(&results) || osmtalk_slot_is_woken())
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
