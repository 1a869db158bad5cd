/*
 * scheduler_test.c
 *		Which event is sent next: windows, turns, limits and their order.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "scheduler.h"

#define SECOND 1000000
#define MOST 4096

static OsmtalkScheduler *s;
static OsmtalkTicket *picked[MOST];
static int	npicked;

static void
fresh(int max_in_flight, int max_per_endpoint)
{
	/* schedulers live as long as their process; a test leaves its own behind */
	s = osmtalk_scheduler_create();
	if (s == NULL)
		abort();
	osmtalk_scheduler_set_limits(s, max_in_flight, max_per_endpoint);
	npicked = 0;
}

static void
add(const char *endpoint, int64_t first, int count)
{
	for (int i = 0; i < count; i++)
		if (!osmtalk_scheduler_add(s, osmtalk_scheduler_endpoint(s, endpoint), first + i, 0, 0, false))
			abort();
}

/* Picks all that may be sent at that time; returns how many. */
static int
pick_all(int64_t now)
{
	int			before = npicked;
	OsmtalkTicket *t;

	while (npicked < MOST && (t = osmtalk_scheduler_pick(s, now)) != NULL)
		picked[npicked++] = t;
	return npicked - before;
}

/* Ends all requests of an endpoint, or of all endpoints, oldest first. */
static void
finish_all(const char *endpoint, OsmtalkVerdict verdict)
{
	int			kept = 0;

	for (int i = 0; i < npicked; i++)
	{
		if (endpoint == NULL || strcmp(osmtalk_scheduler_endpoint_name(picked[i]->endpoint), endpoint) == 0)
			osmtalk_scheduler_done(s, picked[i], verdict);
		else
			picked[kept++] = picked[i];
	}
	npicked = kept;
}

static int
in_flight_of(const char *endpoint)
{
	int			n = 0;

	for (int i = 0; i < npicked; i++)
		n += strcmp(osmtalk_scheduler_endpoint_name(picked[i]->endpoint), endpoint) == 0;
	return n;
}

/* Lets an endpoint answer until its window is at its cap. */
static void
prove(const char *endpoint, int64_t now)
{
	add(endpoint, 1000000, 200);
	for (int i = 0; i < 100; i++)
	{
		pick_all(now);
		finish_all(endpoint, OSMTALK_ANSWERED);
	}
}

static void
test_window(void)
{
	fresh(256, 32);
	add("a", 1, 1000);
	CHECK(pick_all(0) == 2, "an endpoint starts with two requests in flight");
	CHECK(picked[0]->id == 1 && picked[1]->id == 2, "its events leave in the order they came");
	finish_all("a", OSMTALK_ANSWERED);
	CHECK(pick_all(0) == 4, "each success adds one");
	for (int i = 0; i < 20; i++)
	{
		finish_all("a", OSMTALK_ANSWERED);
		pick_all(0);
	}
	CHECK(in_flight_of("a") == 32, "up to the cap");
	finish_all("a", OSMTALK_NO_ANSWER);
	CHECK(pick_all(0) == 1, "a sick endpoint is probed with one request");
	finish_all("a", OSMTALK_NO_ANSWER);
	CHECK(pick_all(0) == 1, "and again");
	finish_all("a", OSMTALK_ANSWERED);
	CHECK(pick_all(0) == 2, "and grows back as it answers");
	finish_all("a", OSMTALK_NOT_SENT);
	CHECK(pick_all(0) == 2, "what was not sent says nothing");
}

static void
test_turns(void)
{
	int			first[3] = {0};

	fresh(6, 32);
	add("a", 1, 100);
	add("b", 201, 100);
	add("c", 301, 100);
	for (int i = 0; i < 30; i++)
	{
		pick_all(0);
		finish_all(NULL, OSMTALK_ANSWERED);
	}
	/* all are proven now, with windows beyond six */
	pick_all(0);
	for (int i = 0; i < npicked; i++)
		first[osmtalk_scheduler_endpoint_name(picked[i]->endpoint)[0] - 'a']++;
	CHECK(npicked == 6, "max_in_flight holds");
	CHECK(first[0] == 2 && first[1] == 2 && first[2] == 2, "endpoints take turns: %d %d %d", first[0], first[1], first[2]);
	CHECK(!osmtalk_scheduler_can_pick(s, 0), "and no more may be picked");
}

static void
test_hung_endpoints(void)
{
	fresh(256, 32);
	prove("healthy", 0);
	for (int i = 0; i < 500; i++)
	{
		char		name[32];

		snprintf(name, sizeof(name), "hung%d", i);
		add(name, 10000 + 100 * i, 10);
	}
	pick_all(0);
	CHECK(npicked == 64, "fresh endpoints hold a quarter of the slots: %d", npicked);
	add("healthy", 1, 1000);
	CHECK(pick_all(0) == 32 && in_flight_of("healthy") == 32, "a healthy one gets all of its window beside them");
	finish_all("healthy", OSMTALK_ANSWERED);
	pick_all(5 * SECOND);
	CHECK(npicked == 128 + 32 && in_flight_of("healthy") == 32,
		  "with those that hang, half of the slots; the healthy one keeps its own: %d", npicked);
	finish_all("healthy", OSMTALK_ANSWERED);
	finish_all(NULL, OSMTALK_NO_ANSWER);
	for (int i = 0; i < 20; i++)
	{
		pick_all((20 + i) * (int64_t) SECOND);
		if (i < 19)
			finish_all(NULL, OSMTALK_NO_ANSWER);
	}
	/* all 500 have failed by now */
	CHECK(npicked - in_flight_of("healthy") == 64, "once known, the sick hold a quarter: %d", npicked - in_flight_of("healthy"));
	add("late", 100000, 10);
	pick_all(40 * (int64_t) SECOND);
	CHECK(in_flight_of("late") == 2, "and a fresh one gets in at once");
}

static void
test_slow(void)
{
	fresh(64, 32);
	prove("a", 0);
	prove("b", 0);
	add("a", 1, 1000);
	pick_all(0);
	CHECK(in_flight_of("a") == 32, "a proven endpoint fills its window");
	add("c", 5000, 10);
	CHECK(pick_all(0) == 2, "a new one gets in beside it");
	add("d", 6000, 10);
	CHECK(pick_all(2 * SECOND) == 0, "once it hangs for a second it counts as unproven, and new ones wait");
	add("b", 7000, 1000);
	CHECK(pick_all(2 * SECOND) == 30, "the healthy take what is left");
	finish_all("a", OSMTALK_ANSWERED);
	CHECK(pick_all(2 * SECOND) > 0 && in_flight_of("d") == 2, "and new ones come in when it has answered");
}

static void
test_later(void)
{
	int64_t		at;
	OsmtalkEndpoint *e;

	fresh(10, 10);
	e = osmtalk_scheduler_endpoint(s, "a");
	CHECK(!osmtalk_scheduler_next_due(s, &at), "nothing is due later");
	for (int i = 0; i < 100; i++)
		(void) osmtalk_scheduler_add(s, e, i, 1000 + (i * 37) % 100, 0, false);
	CHECK(osmtalk_scheduler_queued(s) == 100, "all are queued");
	CHECK(osmtalk_scheduler_next_due(s, &at) && at == 1000, "the first is due first");
	CHECK(!osmtalk_scheduler_can_pick(s, 999) && pick_all(999) == 0, "nothing before its time");
	CHECK(pick_all(1000) == 1 && picked[0]->id == 0, "one at its time");
	CHECK(osmtalk_scheduler_next_due(s, &at) && at == 1001, "then the next");
	finish_all(NULL, OSMTALK_ANSWERED);
	for (int64_t now = 1001, last = 1000; now < 1100; now++)
	{
		pick_all(now);
		if (npicked != 1 || (picked[0]->id * 37) % 100 + 1000 != last + 1)
			break;
		last++;
		finish_all(NULL, OSMTALK_ANSWERED);
		if (now == 1099)
			CHECK(osmtalk_scheduler_queued(s) == 0, "all come in the order of their times");
	}
}

static void
test_suspects(void)
{
	fresh(10, 10);
	add("a", 1, 2);
	pick_all(0);
	(void) osmtalk_scheduler_add(s, osmtalk_scheduler_endpoint(s, "b"), 100, 0, 0, true);
	(void) osmtalk_scheduler_add(s, osmtalk_scheduler_endpoint(s, "b"), 101, 0, 0, true);
	add("a", 3, 10);
	CHECK(pick_all(0) == 0, "a suspect waits until nothing is in flight, and nothing overtakes it");
	finish_all(NULL, OSMTALK_ANSWERED);
	CHECK(pick_all(0) == 1 && picked[0]->suspect, "then goes alone");
	finish_all(NULL, OSMTALK_ANSWERED);
	CHECK(pick_all(0) == 1 && picked[0]->suspect, "the next one too");
	finish_all(NULL, OSMTALK_ANSWERED);
	CHECK(pick_all(0) > 1, "then the others go on");
}

static void
test_clear(void)
{
	fresh(10, 10);
	add("a", 1, 100);
	(void) osmtalk_scheduler_add(s, osmtalk_scheduler_endpoint(s, "a"), 1000, SECOND, 0, false);
	pick_all(0);
	osmtalk_scheduler_clear(s);
	CHECK(osmtalk_scheduler_queued(s) == 0 && osmtalk_scheduler_in_flight(s) == 2, "clear forgets what is queued, not what is in flight");
	finish_all(NULL, OSMTALK_ANSWERED);
	CHECK(osmtalk_scheduler_in_flight(s) == 0 && pick_all(2 * SECOND) == 0, "and nothing is left");
	add("a", 1, 1);
	CHECK(pick_all(0) == 1, "and it goes on");
}

static void
test_limits(void)
{
	fresh(100, 50);
	prove("a", 0);
	add("a", 1, 1000);
	pick_all(0);
	CHECK(npicked == 50, "the window grew to the cap");
	osmtalk_scheduler_set_limits(s, 100, 10);
	CHECK(pick_all(0) == 0, "a lowered cap takes nothing new");
	finish_all(NULL, OSMTALK_ANSWERED);
	CHECK(pick_all(0) == 10, "until it is met");
	osmtalk_scheduler_set_limits(s, 1, 10);
	finish_all(NULL, OSMTALK_ANSWERED);
	CHECK(pick_all(0) == 1, "one at a time works");
	fresh(1, 1);
	add("new", 1, 2);
	CHECK(pick_all(0) == 1, "for an unproven endpoint, too");
}

static void
test_move(void)
{
	fresh(100, 10);
	add("old", 1, 10);
	pick_all(0);
	osmtalk_scheduler_move(s, picked[0], osmtalk_scheduler_endpoint(s, "new"));
	CHECK(pick_all(0) == 1 && in_flight_of("old") == 2, "an event that goes elsewhere makes room where it was");
	finish_all("new", OSMTALK_NO_ANSWER);
	CHECK(pick_all(0) == 0, "and what comes of it is the other's");
	add("new", 100, 10);
	pick_all(0);
	CHECK(in_flight_of("new") == 1, "which is sick now");
	finish_all(NULL, OSMTALK_ANSWERED);
	CHECK(osmtalk_scheduler_in_flight(s) == 0, "nothing is left over");
}

/* Anything at any time: what goes in comes out once, and limits hold. */
static void
test_random(void)
{
	static char seen[20000];
	int64_t		now = 0;
	int			added = 0;
	int			done = 0;
	int			limits_broken = 0;
	int			twice = 0;

	srand(42);
	fresh(20, 5);
	while (done < (int) sizeof(seen))
	{
		char		name[16];

		for (int i = rand() % 20; i > 0 && added < (int) sizeof(seen); i--, added++)
		{
			snprintf(name, sizeof(name), "e%d", rand() % 30);
			(void) osmtalk_scheduler_add(s, osmtalk_scheduler_endpoint(s, name), added,
										 now + (rand() % 4 == 0 ? rand() % SECOND : 0), now, rand() % 500 == 0);
		}
		now += rand() % (SECOND / 4);
		pick_all(now);
		limits_broken += npicked > 20 || osmtalk_scheduler_in_flight(s) != npicked;
		for (int i = rand() % 20; i > 0 && npicked > 0; i--)
		{
			int			which = rand() % npicked;
			OsmtalkTicket *t = picked[which];

			if (rand() % 50 == 0)
				osmtalk_scheduler_move(s, t, osmtalk_scheduler_endpoint(s, "e0"));
			twice += seen[t->id]++ > 0;
			picked[which] = picked[--npicked];
			osmtalk_scheduler_done(s, t, rand() % 3);
			done++;
		}
	}
	CHECK(twice == 0, "20,000 events at random: each came out once");
	CHECK(limits_broken == 0, "and no limit was broken");
	CHECK(osmtalk_scheduler_queued(s) == 0 && osmtalk_scheduler_in_flight(s) == 0, "and nothing is left");
}

int
main(void)
{
	test_window();
	test_turns();
	test_hung_endpoints();
	test_slow();
	test_later();
	test_suspects();
	test_clear();
	test_limits();
	test_move();
	test_random();
	return finish_checks();
}
