/*
 * scheduler_test.c
 *		Which event is sent next: windows, turns, limits and their order.
 *
 * A small model of the outbox plays the claimer: of each endpoint the ids that
 * wait, in order.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "scheduler.h"

#define SECOND 1000000
#define MOST 4096
#define MOST_IDS 4000

static OsmtalkScheduler *s;
static OsmtalkTicket *started[MOST];
static int	nstarted;

/* the outbox: per endpoint hash, whether an id waits there */
static unsigned char waiting[8][MOST_IDS];

static void
fresh(int max_in_flight, int max_per_endpoint)
{
	/* schedulers live as long as their process; a test leaves its own behind */
	s = osmtalk_scheduler_create();
	if (s == NULL)
		abort();
	osmtalk_scheduler_set_limits(s, max_in_flight, max_per_endpoint);
	nstarted = 0;
	memset(waiting, 0, sizeof(waiting));
}

static OsmtalkEndpoint *
endpoint(int64_t hash)
{
	OsmtalkEndpoint *e = osmtalk_scheduler_endpoint(s, hash, 0);

	if (e == NULL)
		abort();
	return e;
}

/* Events of an endpoint that need no model: there are always enough. */
static void
find(int64_t hash, int64_t first, int count)
{
	for (int i = 0; i < count; i++)
		if (!osmtalk_scheduler_found(s, endpoint(hash), first + i))
			abort();
}

/* Claims all that may be; returns how many. */
static int
claim_all(int64_t now, size_t bytes)
{
	int			n = 0;
	OsmtalkTicket *t;

	while ((t = osmtalk_scheduler_pick(s, now)) != NULL)
	{
		OsmtalkEndpoint *e = t->endpoint;
		int64_t		id = t->id ? t->id : e->cursor + 1;

		osmtalk_scheduler_ready(s, t, id, bytes, now);
		osmtalk_scheduler_passed(s, e, id, OSMTALK_REST_AS_FOUND);
		n++;
	}
	return n;
}

static int
start_all(int64_t now)
{
	int			before = nstarted;
	OsmtalkTicket *t;

	while (nstarted < MOST && (t = osmtalk_scheduler_start(s, now)) != NULL)
		started[nstarted++] = t;
	return nstarted - before;
}

static int
go(int64_t now)
{
	claim_all(now, 500);
	return start_all(now);
}

/* Ends all requests of an endpoint, or of all (-1), oldest first. */
static void
finish(int64_t hash, OsmtalkVerdict verdict)
{
	int			kept = 0;

	for (int i = 0; i < nstarted; i++)
	{
		if (hash < 0 || started[i]->endpoint->hash == hash)
			osmtalk_scheduler_done(s, started[i], verdict);
		else
			started[kept++] = started[i];
	}
	nstarted = kept;
}

static int
in_flight_of(int64_t hash)
{
	int			n = 0;

	for (int i = 0; i < nstarted; i++)
		n += started[i]->endpoint->hash == hash;
	return n;
}

/* Lets an endpoint answer until its window is at its cap and it has nothing left. */
static void
prove(int64_t hash)
{
	find(hash, endpoint(hash)->cursor + 1, 100);
	while (go(0) > 0)
		finish(hash, OSMTALK_ANSWERED);
}

static void
test_window(void)
{
	fresh(256, 32);
	find(1, 1, 1000);
	CHECK(go(0) == 2, "an endpoint starts with two requests in flight");
	CHECK(started[0]->id == 1 && started[1]->id == 2, "its events leave in the order of their ids");
	finish(1, OSMTALK_ANSWERED);
	CHECK(go(0) == 4, "each success adds one");
	for (int i = 0; i < 8; i++)
	{
		finish(1, OSMTALK_ANSWERED);
		go(0);
	}
	CHECK(in_flight_of(1) == 32, "up to the cap: %d", in_flight_of(1));
	finish(1, OSMTALK_NO_ANSWER);
	CHECK(go(0) == 1, "a sick endpoint is probed with one request");
	finish(1, OSMTALK_NO_ANSWER);
	CHECK(go(0) == 1, "and again");
	finish(1, OSMTALK_ANSWERED);
	CHECK(go(0) == 2, "and grows back as it answers");
	finish(1, OSMTALK_NOT_SENT);
	CHECK(go(0) == 2, "what was not sent says nothing");
}

static void
test_ahead(void)
{
	fresh(256, 32);
	find(1, 1, 10);
	CHECK(claim_all(0, 500) == 2, "a fresh endpoint has nothing claimed ahead");
	start_all(0);
	finish(1, OSMTALK_ANSWERED);
	while (go(0) > 0)
		finish(1, OSMTALK_ANSWERED);
	prove(1);
	find(1, endpoint(1)->cursor + 1, 100000);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_HUNGRY, "what could be sent is to be claimed");
	CHECK(claim_all(0, 500) == 256, "a proven one seven windows beyond its own");
	CHECK(start_all(0) == 32, "of which it sends what its window holds");
	CHECK(osmtalk_scheduler_appetite(s, 0) != OSMTALK_HUNGRY, "and the rest is enough for now");
	for (int i = 0; i < 7; i++)
	{
		finish(1, OSMTALK_ANSWERED);
		start_all(0);
	}
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_HUNGRY, "until it runs low");
	finish(1, OSMTALK_ANSWERED);
	CHECK(claim_all(0, 1024 * 1024) == 32, "large ones are not claimed ahead");

	fresh(100, 50);
	for (int i = 1; i <= 20; i++)
		prove(i);
	for (int i = 1; i <= 20; i++)
		find(i, endpoint(i)->cursor + 1, 1000);
	CHECK(claim_all(0, 500) == 200, "in all, no more than twice the slots");
	CHECK(start_all(0) == 100, "max_in_flight holds");
	for (int i = 1; i <= 20; i++)
		CHECK(in_flight_of(i) == 5, "endpoints take turns: %d has %d", i, in_flight_of(i));
}

static void
test_hung_endpoints(void)
{
	OsmtalkTicket *t;

	fresh(256, 32);
	prove(1);
	for (int i = 0; i < 500; i++)
		find(1000 + i, 1, 10);
	CHECK(go(0) == 64, "fresh endpoints hold a quarter of the slots: %d", nstarted);
	find(1, endpoint(1)->cursor + 1, 1000);
	go(0);
	CHECK(in_flight_of(1) == 32, "a healthy one gets all of its window beside them");
	/* what the healthy one has ready counts with it: it is handed back when it is of no use */
	osmtalk_scheduler_appetite(s, 2 * SECOND);
	while ((t = osmtalk_scheduler_stale(s, SECOND)) != NULL)
		osmtalk_scheduler_done(s, t, OSMTALK_NOT_SENT);
	go(2 * SECOND);
	CHECK(nstarted == 128, "those that hang count as sick, and share a half with the fresh: %d", nstarted);
	for (int i = 0; i < nstarted; i++)
		if (started[i]->endpoint->hash == 1)
		{
			osmtalk_scheduler_done(s, started[i], OSMTALK_ANSWERED);
			started[i--] = started[--nstarted];
		}
	go(3 * SECOND);
	CHECK(in_flight_of(1) == 32, "a healthy one is still served: %d", in_flight_of(1));
	finish(-1, OSMTALK_NO_ANSWER);
	go(20 * SECOND);
	CHECK(nstarted <= 128 + 1, "after the time-outs they share a half: %d", nstarted);
}

static void
test_slow(void)
{
	fresh(40, 20);
	prove(1);
	find(1, endpoint(1)->cursor + 1, 100);
	go(0);
	CHECK(in_flight_of(1) == 20, "a proven endpoint");
	osmtalk_scheduler_done(s, started[--nstarted], OSMTALK_ANSWERED);
	go(2 * SECOND);
	CHECK(in_flight_of(1) <= 20, "whose requests are slow gets no more than the sick");
	CHECK(osmtalk_scheduler_start(s, 2 * SECOND) == NULL, "so long as they are");
	finish(1, OSMTALK_ANSWERED);
	go(2 * SECOND);
	CHECK(in_flight_of(1) == 20, "and all when they have ended: %d", in_flight_of(1));
}

static void
test_late_and_later(void)
{
	int64_t		at;
	OsmtalkTicket *t;

	fresh(256, 2);
	find(1, 10, 1);
	t = osmtalk_scheduler_pick(s, 0);
	osmtalk_scheduler_ready(s, t, 10, 1, 0);
	osmtalk_scheduler_passed(s, endpoint(1), 10, OSMTALK_REST_NONE);
	find(1, 7, 1);
	t = osmtalk_scheduler_pick(s, 0);
	CHECK(t != NULL && t->id == 7, "an id behind the cursor is handed out by itself");
	osmtalk_scheduler_done(s, t, OSMTALK_NOT_SENT);
	CHECK(osmtalk_scheduler_pick(s, 0) == NULL, "once");

	osmtalk_scheduler_passed(s, endpoint(1), 100000, OSMTALK_REST_NONE);
	for (int i = 0; i < 1024; i++)
		find(1, 2000 + i, 1);
	CHECK(endpoint(1)->cursor == 100000, "a thousand of them are kept");
	find(1, 1500, 1);
	CHECK(endpoint(1)->cursor == 1499, "for more the cursor is set back: %ld", (long) endpoint(1)->cursor);

	fresh(256, 2);
	CHECK(!osmtalk_scheduler_next_due(s, &at), "nothing is due later");
	for (int i = 0; i < 50; i++)
		if (!osmtalk_scheduler_found_later(s, endpoint(1), 100 + i, (i * 37 % 50 + 1) * SECOND))
			abort();
	CHECK(osmtalk_scheduler_next_due(s, &at) && at == SECOND, "the earliest is known");
	CHECK(osmtalk_scheduler_pick(s, SECOND - 1) == NULL, "and not before");
	osmtalk_scheduler_passed(s, endpoint(1), 1000, OSMTALK_REST_NONE);
	for (int i = 1; i <= 50; i++)
	{
		t = osmtalk_scheduler_pick(s, i * (int64_t) SECOND);
		if (t == NULL || (t->id - 100) * 37 % 50 + 1 != i)
			break;
		osmtalk_scheduler_done(s, t, OSMTALK_NOT_SENT);
		if (i == 50)
			CHECK(true, "each at its time");
	}
	CHECK(!osmtalk_scheduler_next_due(s, &at), "all were handed out");
}

static void
test_suspects(void)
{
	fresh(256, 32);
	prove(1);
	find(1, endpoint(1)->cursor + 1, 10);
	go(0);
	find(1, 5000, 10);
	if (!osmtalk_scheduler_found_suspect(s, endpoint(1), 3))
		abort();
	CHECK(go(0) == 0 && osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL, "a suspect waits for the others, and nobody goes before it");
	finish(-1, OSMTALK_ANSWERED);
	start_all(0);
	finish(-1, OSMTALK_ANSWERED);
	CHECK(go(0) == 1 && started[0]->suspect && started[0]->id == 3, "then it goes alone");
	CHECK(go(0) == 0, "all the way");
	finish(-1, OSMTALK_ANSWERED);
	CHECK(go(0) > 1, "then the others");
}

static void
test_stale_and_move(void)
{
	OsmtalkTicket *t;
	OsmtalkTicket *second;

	fresh(256, 8);
	prove(1);
	find(1, endpoint(1)->cursor + 1, 30);
	claim_all(0, 500);
	claim_all(5, 500);
	start_all(5);
	CHECK(osmtalk_scheduler_stale(s, 0) == NULL, "nothing has been ready for long");
	t = osmtalk_scheduler_stale(s, 1);
	CHECK(t != NULL, "the oldest has");
	second = t->younger;
	osmtalk_scheduler_done(s, second, OSMTALK_NOT_SENT);	/* from the middle of the list */
	osmtalk_scheduler_done(s, t, OSMTALK_NOT_SENT);
	finish(1, OSMTALK_ANSWERED);
	CHECK(start_all(6) == 8, "the rest go on");

	fresh(256, 8);
	find(1, 1, 5);
	t = osmtalk_scheduler_pick(s, 0);
	osmtalk_scheduler_move(s, t, endpoint(2));
	osmtalk_scheduler_ready(s, t, 1, 500, 0);
	CHECK(start_all(0) == 1 && in_flight_of(2) == 1, "an event goes to another endpoint than it waited for");
	finish(2, OSMTALK_ANSWERED);
	CHECK(go(0) == 2 && in_flight_of(1) == 2, "which took nothing from this one");
}

static void
test_clear_and_limits(void)
{
	fresh(256, 32);
	prove(1);
	find(1, endpoint(1)->cursor + 1, 10);
	go(0);
	find(1, 5000, 10);
	osmtalk_scheduler_clear(s);
	CHECK(go(0) == 0 && nstarted == 10, "what is not claimed is forgotten, what is in flight is not");
	osmtalk_scheduler_found_more(s, endpoint(1), 0);
	CHECK(endpoint(1)->cursor == 0 && osmtalk_scheduler_appetite(s, 0) == OSMTALK_HUNGRY, "all is read again");
	finish(1, OSMTALK_ANSWERED);
	osmtalk_scheduler_set_limits(s, 256, 3);
	find(1, 5000, 100);
	go(0);
	CHECK(in_flight_of(1) == 3, "a lower limit is heeded: %d", in_flight_of(1));
	osmtalk_scheduler_set_limits(s, 2, 32);
	finish(1, OSMTALK_ANSWERED);
	CHECK(start_all(0) <= 2, "and that of all");
}

static void
test_forgotten_endpoints(void)
{
	OsmtalkEndpoint *busy;

	fresh(256, 32);
	busy = endpoint(7);
	busy->mark = 42;
	find(7, 1, 1);
	for (int i = 0; i < 5000; i++)
		endpoint(100 + i)->mark = 1;
	CHECK(endpoint(7)->mark == 42, "an endpoint with events is kept");
	CHECK(endpoint(100)->mark == 0, "the longest unused are not");
	CHECK(endpoint(100 + 4999)->mark == 1, "the last are");
}

/* ---- at random ---- */

static uint32_t seed = 1;

static int
chance(int n)
{
	seed = seed * 1103515245u + 12345u;
	return (int) (seed >> 16) % n;
}

/* Claims as claim.c does: for each endpoint what follows its cursor. */
static void
claim_from_model(int64_t now)
{
	OsmtalkTicket *picked[MOST];
	int			n = 0;
	OsmtalkTicket *t;

	while (n < MOST && (t = osmtalk_scheduler_pick(s, now)) != NULL)
		picked[n++] = t;
	for (int i = 0; i < n; i++)
	{
		OsmtalkEndpoint *e = picked[i]->endpoint;
		int64_t		id = picked[i]->id;

		if (id == 0)
		{
			for (id = e->cursor + 1; id < MOST_IDS && !waiting[e->hash][id]; id++)
				;
			osmtalk_scheduler_passed(s, e, id < MOST_IDS ? id : e->cursor,
									 id < MOST_IDS ? OSMTALK_REST_UNKNOWN : OSMTALK_REST_NONE);
		}
		if (id >= MOST_IDS || !waiting[e->hash][id])
		{
			osmtalk_scheduler_done(s, picked[i], OSMTALK_NOT_SENT);
			continue;
		}
		waiting[e->hash][id] = 0;
		osmtalk_scheduler_ready(s, picked[i], id, 500, now);
	}
}

static void
test_random(void)
{
	static unsigned char delivered[8][MOST_IDS];
	int			next_id[8] = {0};
	int			added = 0;
	int			done = 0;
	int			doubled = 0;
	int			over = 0;
	int64_t		now = 0;

	fresh(24, 8);
	for (int step = 0; step < 40000; step++)
	{
		int			hash = chance(8);
		bool		enqueue = step < 25000;

		now += chance(200000);
		if (enqueue && chance(3) == 0 && next_id[hash] + 3 < MOST_IDS)
		{
			int			id = next_id[hash] += 1 + chance(2);

			waiting[hash][id] = 1;
			added++;
			if (chance(10) == 0)
			{
				if (!osmtalk_scheduler_found_later(s, osmtalk_scheduler_endpoint(s, hash, id - 1), id, now + chance(5 * SECOND)))
					abort();
				/* met on the way, so passed */
				osmtalk_scheduler_passed(s, endpoint(hash), id, OSMTALK_REST_UNKNOWN);
				/* and what it passed is behind the cursor now */
				osmtalk_scheduler_found_more(s, endpoint(hash), 0);
			}
			else if (!osmtalk_scheduler_found(s, osmtalk_scheduler_endpoint(s, hash, id - 1), id))
				abort();
		}
		if (chance(4) == 0)
			claim_from_model(now);
		start_all(now);
		if (osmtalk_scheduler_in_flight(s) > 24 || osmtalk_scheduler_held(s) > 48 + 24)
			over++;
		for (int i = 0; i < nstarted; i++)
			if (in_flight_of(started[i]->endpoint->hash) > 8)
				over++;
		if (nstarted > 0 && chance(2) == 0)
		{
			int			i = chance(nstarted);
			OsmtalkTicket *t = started[i];

			doubled += delivered[t->endpoint->hash][t->id];
			delivered[t->endpoint->hash][t->id] = 1;
			done++;
			osmtalk_scheduler_done(s, t, chance(5) == 0 ? OSMTALK_NO_ANSWER : OSMTALK_ANSWERED);
			started[i] = started[--nstarted];
		}
		if (chance(500) == 0)
		{
			OsmtalkTicket *t;

			while ((t = osmtalk_scheduler_stale(s, now - SECOND)) != NULL)
			{
				int64_t		id = t->id;
				OsmtalkEndpoint *e = t->endpoint;

				waiting[e->hash][id] = 1;
				osmtalk_scheduler_done(s, t, OSMTALK_NOT_SENT);
				if (!osmtalk_scheduler_found(s, e, id))
					abort();
			}
		}
		if (chance(3000) == 0)
		{
			osmtalk_scheduler_clear(s);
			for (int i = 0; i < 8; i++)
				osmtalk_scheduler_found_more(s, endpoint(i), 0);
		}
	}
	CHECK(over == 0, "no limit is exceeded at any time");
	CHECK(doubled == 0, "no event is sent twice");
	CHECK(added > 5000 && done == added, "and each is sent: %d of %d", done, added);
}

int
main(void)
{
	test_window();
	test_ahead();
	test_hung_endpoints();
	test_slow();
	test_late_and_later();
	test_suspects();
	test_stale_and_move();
	test_clear_and_limits();
	test_forgotten_endpoints();
	test_random();
	return finish_checks();
}
