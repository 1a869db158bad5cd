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
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "crash.h"
#include "endpoint.h"
#include "http.h"
#include "objects.h"
#include "outbox.h"
#include "ownership.h"
#include "redelivery.h"
#include "retention.h"
#include "retries.h"
#include "sending.h"
#include "settings.h"
#include "slot.h"
#include "statements.h"
#include "tally.h"
#include "upkeep.h"

PG_MODULE_MAGIC;

/* pauses after a failed transaction double from the first to the second */
#define FIRST_PAUSE_MS 100
#define LONGEST_PAUSE_MS 5000

/* and for rows of another database this often, while there is nothing to send */
#define ADOPTED_INTERVAL_MS 5000

/* and for events whose waiting is over this often, or more often */
#define WAITING_INTERVAL_MS 1000

/* results wait for others this long, or until there are so many, to be settled with them */
#define SETTLE_DELAY_MS 5
#define SETTLE_MOST 500

/* those that could not be settled because their rows are locked are tried again after this long */
#define LOCKED_PAUSE_MS 1000

/* what other workers are to leave is asked for again after this long */
#define SHARE_PAUSE_MS 50

/* no transaction sooner than this after the last just to claim more, while there is enough to begin, or for the sick */
#define CLAIM_PAUSE_MS 8

/* once sending is paused, what is in flight has so long to finish */
#define PAUSE_GRACE_MS 1500

/* busy sockets do not keep the worker from the latch and the postmaster for more rounds than these */
#define MOST_ROUNDS 50

PGDLLEXPORT void osmtalk_worker_main(Datum arg);

/* see load.c */
extern PGDLLEXPORT const OsmtalkBuild osmtalk_worker_build;
const OsmtalkBuild osmtalk_worker_build = OSMTALK_BUILD;

static bool attached = false;

static OsmtalkScheduler *scheduler;
static WaitEventSet *wait_set;

/* reset on each turn of the loop */
static MemoryContext turn_context;

/* deliveries that are over and to be settled */
static dlist_head results = DLIST_STATIC_INIT(results);
static int nresults = 0;
static int nleft = 0;				 /* of them, that could not be settled by the last turn */
static int most_unsettled;			 /* requests that are made and not settled: so many may be made again after a crash */
static TimestampTz settle_after = 0; /* not before, unless for another reason */

/* when to do what next */
static bool reload_wanted = true;
static bool find_waiting_wanted = true;
static bool look_on_wanted = false; /* the last look did not see everything */
static TimestampTz next_poll = 0;
static TimestampTz next_overdue_check = 0;
static TimestampTz next_adopted_check = 0;
static TimestampTz next_waiting_check = 0;
static TimestampTz next_claim = 0;		  /* not before, just to claim more; see CLAIM_PAUSE_MS */
static TimestampTz next_share = DT_NOEND; /* when to ask others again for what is this one's share */
static TimestampTz turn_after = 0;		  /* after a failure, not before */
static int64 clock_set_back_by = 0;		  /* microseconds, and what waits does not know yet */
static TimestampTz leave_after = 0;		  /* while paused: not before, unless nothing is in flight */
static int failures = 0;				  /* of turns, in succession */

static bool paused = false; /* nothing is sent, and this process leaves, until somebody resumes */

static int answers = 0;				 /* sockets that had something at the last look */
static bool unsent_is_ready = false; /* more requests could be begun */

static void terminate(SIGNAL_ARGS);
static void start_up(Oid database, int number);
static void loop(void);
static void take_turn(TimestampTz now);
static void take_share(TimestampTz now);
static void recover_from_error(bool is_turn);
static long report_failure(const char *what);
static void quit(OsmtalkPresence presence);
static void note_pause(bool now_paused, TimestampTz now);
static void leave_if_paused(TimestampTz now);
static void leave_paused(void);
static void collect_results(void);
static void publish_figures(void);
static void wait_for_something(TimestampTz now);
static void leave(int code, Datum arg);

/* ---- start ---- */

void
osmtalk_worker_main(Datum arg)
{
	Oid database = DatumGetObjectId(arg);
	int number;

	memcpy(&number, MyBgworkerEntry->bgw_extra, sizeof(number));

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, terminate);
	pqsignal(SIGINT, SIG_IGN); /* but within a transaction, see statements.c */
	osmtalk_crash_watch(database, number);
	BackgroundWorkerUnblockSignals();

	/* before the connection: if that fails, the launcher must hear of it */
	if (!osmtalk_slot_enter(database, number))
		proc_exit(0); /* somebody else is there already */

	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pgstat_report_appname("osmtalk worker");
	osmtalk_pin_settings();

	start_up(database, number);
	loop();
}

static void
terminate(SIGNAL_ARGS)
{
	osmtalk_slot_terminated = true;
	die(postgres_signal_arg);
}

/*
 * Becomes one that delivers the database's events; does not return if there
 * are none.  If it fails (a read-only database, a lock), says why, and ends:
 * what was set for the database when this process connected stays set for its
 * life, so the next try is for the next one.
 */
static void
attach(Oid database, int number)
{
	OsmtalkPresence presence = OSMTALK_ABSENT;
	bool settled;

	failures = osmtalk_slot_start_failures();
	PG_TRY();
	{
		presence = osmtalk_attach(number, osmtalk_crashes_noted(database));
		if (presence == OSMTALK_PRESENT)
		{
			paused = osmtalk_is_paused();
			/* no other worker comes to a paused database to let go of what was in flight */
			(void) osmtalk_take_share(paused ? 1 : osmtalk_workers, &settled);
			next_share = settled ? DT_NOEND : 0;
		}
	}
	PG_CATCH();
	{
		(void) report_failure("osmtalk: the worker cannot start to work");
		if (paused)
			osmtalk_slot_set_state(OSMTALK_SLOT_NO_EXTENSION); /* nor is it wanted */
		else
			osmtalk_slot_set_start_failures(failures);
		proc_exit(0);
	}
	PG_END_TRY();
	if (presence != OSMTALK_PRESENT)
		quit(presence);
	failures = 0;
	osmtalk_slot_set_start_failures(0);
	osmtalk_crash_forget();
	if (paused)
		leave_paused();
}

static void
set_limits(void)
{
	int share = (osmtalk_max_in_flight + osmtalk_workers - 1) / osmtalk_workers;

	most_unsettled = Min(share, osmtalk_http_capacity());
	osmtalk_scheduler_set_limits(scheduler, most_unsettled, osmtalk_max_in_flight_per_endpoint);
}

static void
start_up(Oid database, int number)
{
	turn_context = AllocSetContextCreate(TopMemoryContext, "osmtalk turn", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(turn_context);
	attach(database, number);

	scheduler = osmtalk_scheduler_create();
	if (scheduler == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	set_limits();

	wait_set =
#if PG_VERSION_NUM >= 170000
		CreateWaitEventSet(NULL, 3);
#else
		CreateWaitEventSet(TopMemoryContext, 3);
#endif
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, osmtalk_http_start(), NULL, NULL);
	osmtalk_slot_note_library(osmtalk_http_library());

	/* not sooner: it needs all of that */
	attached = true;
	before_shmem_exit(leave, (Datum) 0);

	osmtalk_slot_set_state(OSMTALK_SLOT_RUNNING);
	osmtalk_wake_launcher();
	ereport(LOG,
			errmsg("osmtalk: worker for database %u started", database));
}

/* ---- the loop ---- */

static void
reload_configuration(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	set_limits();
	osmtalk_http_reload();
	/* they were worked out from the old intervals */
	next_poll = next_overdue_check = next_waiting_check = 0;
	next_share = 0;
}

/*
 * A clock that was set back must not stop the work until it has caught up.
 * What waits for its time in the scheduler is read again.
 */
static void
limit_times(TimestampTz now)
{
	static TimestampTz before = 0;

	if (now < TimestampTzPlusMilliseconds(before, -LOCKED_PAUSE_MS))
	{
		reload_wanted = true;
		clock_set_back_by += before - now;
	}
	before = now;
	next_poll = Min(next_poll, TimestampTzPlusMilliseconds(now, osmtalk_poll_interval));
	next_overdue_check = Min(next_overdue_check, TimestampTzPlusMilliseconds(now, LONGEST_PAUSE_MS));
	next_adopted_check = Min(next_adopted_check, TimestampTzPlusMilliseconds(now, ADOPTED_INTERVAL_MS));
	next_waiting_check = Min(next_waiting_check, TimestampTzPlusMilliseconds(now, LONGEST_PAUSE_MS));
	turn_after = Min(turn_after, TimestampTzPlusMilliseconds(now, LONGEST_PAUSE_MS));
	settle_after = Min(settle_after, TimestampTzPlusMilliseconds(now, LOCKED_PAUSE_MS));
	leave_after = Min(leave_after, TimestampTzPlusMilliseconds(now, PAUSE_GRACE_MS));
	next_claim = Min(next_claim, TimestampTzPlusMilliseconds(now, CLAIM_PAUSE_MS));
	if (next_share != DT_NOEND)
		next_share = Min(next_share, TimestampTzPlusMilliseconds(now, SHARE_PAUSE_MS));
}

static bool
may_send(void)
{
	return osmtalk_enabled && !paused;
}

/* How many requests may be begun until results are settled. */
static int
room(void)
{
	return most_unsettled - osmtalk_scheduler_in_flight(scheduler) - nresults;
}

/* Whether there is reason for a transaction with the outbox. */
static bool
turn_wanted(TimestampTz now)
{
	OsmtalkAppetite appetite;

	if (turn_after > now)
		return false;
	if (reload_wanted || look_on_wanted || now >= Min(next_poll, next_overdue_check) || osmtalk_slot_is_woken())
		return true;
	if (nresults > 0 && now >= settle_after)
		return true;
	if (nresults > nleft && (room() <= 0 || nresults - nleft >= SETTLE_MOST))
		return true;
	if (!may_send() || (unsent_is_ready && now < next_claim))
		return false;
	appetite = osmtalk_scheduler_appetite(scheduler, now);
	return appetite == OSMTALK_HUNGRY || (appetite == OSMTALK_PATIENT && now >= next_claim);
}

static void
loop(void)
{
	int rounds = 0;

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reload_configuration();
		MemoryContextSwitchTo(turn_context);
		MemoryContextReset(turn_context);

		limit_times(now);
		if (now >= next_share && now >= turn_after)
			take_share(now);
		if (turn_wanted(now))
			take_turn(now);
		if (osmtalk_worker_number() == 0)
			osmtalk_apply_retention(now);
		osmtalk_feed_redeliveries(now, may_send() && failures == 0);
		/* after the turn: it may have claimed for an endpoint that was to be left alone a moment later */
		if (!osmtalk_hand_back(scheduler, may_send() ? TimestampTzPlusMilliseconds(now, -OSMTALK_STALE_MS) : DT_NOEND,
							   osmtalk_slot_take_left_alone()))
			reload_wanted = true;
		/* nothing while results cannot be recorded */
		unsent_is_ready = may_send() && failures == 0 && osmtalk_send_ready(scheduler, answers, room());
		publish_figures();

		answers = osmtalk_http_work();
		collect_results();
		leave_if_paused(now);
		if ((answers > 0 || unsent_is_ready) && ++rounds < MOST_ROUNDS)
			continue;
		rounds = 0;
		wait_for_something(GetCurrentTimestamp());
	}
}

/* Takes what is this worker's share, and lets go of what is not. */
static void
take_share(TimestampTz now)
{
	bool settled = false;

	PG_TRY();
	{
		if (osmtalk_take_share(osmtalk_workers, &settled))
			reload_wanted = true;
		next_share = settled ? DT_NOEND : TimestampTzPlusMilliseconds(now, SHARE_PAUSE_MS);
	}
	PG_CATCH();
	{
		recover_from_error(false);
		return;
	}
	PG_END_TRY();

	/* one of fewer than before, and all of its share is let go of */
	if (settled && osmtalk_worker_number() >= osmtalk_workers)
	{
		osmtalk_slot_set_state(OSMTALK_SLOT_NO_EXTENSION);
		proc_exit(0);
	}
}

/* A transaction with the outbox. */
static void
take_turn(TimestampTz now)
{
	OsmtalkTurn turn = {0};
	/* before the transaction, so that it sees what they have committed */
	uint32 wake = osmtalk_slot_take_wake();
	bool ask_pause, check_waiting;
	bool first = osmtalk_worker_number() == 0;

	if (wake & OSMTALK_WAKE_RELOAD)
		reload_wanted = find_waiting_wanted = true;
	turn.results = &results;
	turn.claim = may_send();
	turn.look.reload = reload_wanted;
	ask_pause = turn.look.check_paused = reload_wanted || (wake & OSMTALK_WAKE_PAUSE) != 0 || now >= next_overdue_check;
	turn.look.check_overdue = first && now >= next_overdue_check;
	turn.look.check_adopted = first && (reload_wanted || now >= next_adopted_check) &&
		osmtalk_scheduler_appetite(scheduler, now) == OSMTALK_FULL;
	check_waiting = turn.look.check_waiting = may_send() && osmtalk_owns(OSMTALK_WAITING_QUEUE) &&
		((wake & OSMTALK_WAKE_WAITING) != 0 || now >= next_waiting_check);
	if (check_waiting)
		next_waiting_check = TimestampTzPlusMilliseconds(now, Min(osmtalk_poll_interval, WAITING_INTERVAL_MS));
	next_poll = TimestampTzPlusMilliseconds(now, osmtalk_poll_interval);
	next_claim = TimestampTzPlusMilliseconds(now, CLAIM_PAUSE_MS);
	if (turn.look.check_adopted)
		next_adopted_check = TimestampTzPlusMilliseconds(now, ADOPTED_INTERVAL_MS);
	if (turn.look.check_overdue || !first)
		next_overdue_check = TimestampTzPlusMilliseconds(now, Min(osmtalk_poll_interval, OSMTALK_OVERDUE_INTERVAL_MS));

	PG_TRY();
	{
		osmtalk_outbox_turn(&turn, scheduler);
	}
	PG_CATCH();
	{
		recover_from_error(true);
		return;
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
	look_on_wanted = turn.look.more;
	if (ask_pause)
		note_pause(turn.look.paused, now);
	nresults = nleft = turn.nresults;
	settle_after = TimestampTzPlusMilliseconds(now, LOCKED_PAUSE_MS);
	if (turn.look.overdue)
	{
		long pause = osmtalk_expire_calls();

		next_overdue_check = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
	}
	if (turn.look.not_adopted)
		osmtalk_report_not_adopted();
	find_waiting_wanted = find_waiting_wanted || turn.look.waiting;
	if (!osmtalk_owns(OSMTALK_WAITING_QUEUE) || (clock_set_back_by > 0 && osmtalk_follow_clock(clock_set_back_by) >= 0))
		clock_set_back_by = 0;
	if (find_waiting_wanted && (turn.look.waiting || check_waiting) && osmtalk_find_waiting() >= 0)
		find_waiting_wanted = false;
	/* those that go are found by a look of their own */
	if (turn.look.releasable && osmtalk_release_waiting() > 0)
		next_poll = next_waiting_check = 0;
	if (turn.look.redeliveries)
		osmtalk_redelivery_found(now);
	osmtalk_flush_tallies(GetCurrentTimestamp());
}

/*
 * In a PG_CATCH: notes the error, and says it in the log, at the first and
 * then ever more seldom.  Returns how many milliseconds to wait before trying
 * again.
 */
static long
report_failure(const char *what)
{
	ErrorData *error = osmtalk_take_error(turn_context);
	long pause = Min(FIRST_PAUSE_MS << Min(failures, 10), LONGEST_PAUSE_MS);

	if ((failures & (failures - 1)) == 0)
		ereport(LOG,
				errcode(error->sqlerrcode),
				errmsg("%s: %s", what, error->message),
				/* the row that broke a constraint may hold a URL with what is not for the log */
				error->detail && error->sqlerrcode != ERRCODE_CHECK_VIOLATION && error->sqlerrcode != ERRCODE_NOT_NULL_VIOLATION
					? errdetail_internal("%s", error->detail)
					: 0);
	failures++;
	osmtalk_slot_note_error(error->message);
	FreeErrorData(error);
	return pause;
}

/*
 * In a PG_CATCH: nothing was settled or claimed, results wait.  Everything is
 * read again at the next turn, so that no trace of this one is left.
 */
static void
recover_from_error(bool is_turn)
{
	int sqlerrcode = geterrcode();
	OsmtalkPresence presence;
	long pause;

	if (is_turn && osmtalk_outbox_turn_failed(scheduler, sqlerrcode))
	{
		FreeErrorData(osmtalk_take_error(turn_context));
		pause = 0;
	}
	else
		pause = report_failure("osmtalk: nothing is sent until the outbox works again");
	reload_wanted = true;

	presence = osmtalk_outbox_presence();
	if (presence != OSMTALK_PRESENT)
		quit(presence);
	turn_after = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
}

/*
 * Ends the process because it cannot serve the database as it is.  The tables
 * are not touched any more, not even to let go: what is in flight is claimed,
 * and made again by the next worker.
 */
static void
quit_unfit(void)
{
	attached = false;
	osmtalk_report_misfit(osmtalk_worker_number());
	osmtalk_slot_set_start_failures(osmtalk_slot_start_failures() + 1);
	if (osmtalk_slot_take_wake() & OSMTALK_WAKE_START)
		osmtalk_slot_set_state(OSMTALK_SLOT_WANTED); /* updated since it looked */
	proc_exit(0);
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

	if (presence == OSMTALK_UNFIT)
		quit_unfit();
	if (presence == OSMTALK_PRESENT)
		proc_exit(0); /* it was not when that was noticed: it is to be started again */
	if (attached)
		ereport(LOG, errmsg("osmtalk: the extension was dropped, %s ends", MyBgworkerEntry->bgw_name));
	/* what an extension that was created since has left here */
	else if ((osmtalk_slot_take_wake() & OSMTALK_WAKE_START) != 0)
		wanted = true;
	attached = false;
	osmtalk_slot_set_state(wanted ? OSMTALK_SLOT_WANTED : OSMTALK_SLOT_NO_EXTENSION);
	proc_exit(0);
}

/* ---- the pause ---- */

static void
note_pause(bool now_paused, TimestampTz now)
{
	if (now_paused && !paused)
		leave_after = TimestampTzPlusMilliseconds(now, PAUSE_GRACE_MS);
	paused = now_paused;
}

/*
 * Leaves a paused database: once nothing is in flight, or when that takes too
 * long, for whoever paused it may want it free of connections.  Not while
 * results cannot be recorded: what was answered would be sent again.
 */
static void
leave_if_paused(TimestampTz now)
{
	if (!paused || (nresults > 0 && failures > 0))
		return;
	if (now >= leave_after || (nresults == 0 && osmtalk_scheduler_in_flight(scheduler) == 0))
		leave_paused();
}

static void
leave_paused(void)
{
	ereport(LOG,
			errmsg("osmtalk: sending is paused, %s ends", MyBgworkerEntry->bgw_name),
			errhint("SELECT osmtalk.resume() in this database goes on."));
	osmtalk_slot_set_state(OSMTALK_SLOT_NO_EXTENSION);
	proc_exit(0);
}

/* ---- results ---- */

static void
collect_results(void)
{
	bool none = nresults == 0;

	nresults += osmtalk_collect_results(scheduler, &results);
	if (nresults > 0 && none)
		settle_after = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SETTLE_DELAY_MS);
	/* nobody to be settled with */
	if (nresults > 0 && osmtalk_scheduler_in_flight(scheduler) + osmtalk_scheduler_held(scheduler) == 0)
		settle_after = Min(settle_after, GetCurrentTimestamp());
}

static void
publish_figures(void)
{
	osmtalk_slot_publish(osmtalk_scheduler_in_flight(scheduler),
						 osmtalk_delivered, osmtalk_failed, failures > 0 && nresults > 0);
}

/* ---- waiting ---- */

/* Milliseconds from now, not below 0. */
static long
until(TimestampTz now, TimestampTz then)
{
	return TimestampDifferenceMilliseconds(now, then);
}

static void
wait_for_something(TimestampTz now)
{
	WaitEvent events[3];
	long timeout;
	long for_http = osmtalk_http_timeout();
	int64 at;
	int n;

	if (unsent_is_ready || turn_wanted(now))
		timeout = 0;
	else
	{
		timeout = until(now, turn_after > now ? turn_after : Min(next_poll, next_overdue_check));
		if (osmtalk_worker_number() == 0)
			timeout = Min(timeout, until(now, osmtalk_retention_next(now)));
		if (osmtalk_redelivery_next(now) != DT_NOEND)
			timeout = Min(timeout, until(now, osmtalk_redelivery_next(now)));
		if (nresults > 0 && turn_after <= now)
			timeout = Min(timeout, until(now, settle_after));
		if (next_share != DT_NOEND)
			timeout = Min(timeout, until(now, Max(next_share, turn_after)));
		if (may_send() && turn_after <= now && osmtalk_scheduler_next_due(scheduler, &at))
			timeout = Min(timeout, until(now, at));
		if (may_send() && turn_after <= now && osmtalk_scheduler_appetite(scheduler, now) == OSMTALK_PATIENT)
			timeout = Min(timeout, until(now, next_claim));
		if (osmtalk_scheduler_ready_since(scheduler, &at))
			timeout = Min(timeout, until(now, TimestampTzPlusMilliseconds(at, OSMTALK_STALE_MS)));
		if (paused && leave_after > now)
			timeout = Min(timeout, until(now, leave_after));
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
	OsmtalkDelivery **in_flight;
	int n;

	if (!attached)
		return;
	attached = false; /* should this fail, it is not tried again */
	AbortOutOfAnyTransaction();
	MemoryContextSwitchTo(turn_context);
	(void) osmtalk_http_work();
	collect_results();
	(void) osmtalk_hand_back(scheduler, DT_NOEND, 0);
	n = osmtalk_unanswered(scheduler, &in_flight);
	if (!osmtalk_leave(&results, in_flight, n))
		ereport(LOG,
				errmsg("osmtalk: results could not be recorded at the end of %s, requests in flight are made again",
					   MyBgworkerEntry->bgw_name));
	osmtalk_flush_tallies(DT_NOEND);
}
