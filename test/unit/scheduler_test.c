/*
 * scheduler_test.c
 *		Which event is sent next: windows, turns, limits and their order.
 *
 * A small model of the outbox plays the claimer: of each endpoint the rows
 * that are there, in the order of their ids.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "check.h"
#include "scheduler.h"

#define SECOND INT64_C(1000000)
#define MOST 4096				/* tickets */
#define MOST_SCHEDULERS 100
#define NQUEUES 4096			/* endpoints are numbered from 0 */
#define ALL (-1)
#define NOBODY (-2)
#define LARGE (1024 * 1024)

/* of the outbox */
typedef struct Row
{
	int64_t		id;
	int64_t		due_at;
	bool		suspect;
	bool		claimed;
} Row;

typedef struct Queue
{
	Row		   *rows;			/* by their ids */
	int			nrows;
	int			capacity;
} Queue;

/* what the claimer knows of a claimed event: where its row is */
typedef struct Delivery
{
	int64_t		hash;
	int64_t		id;
} Delivery;

static OsmtalkScheduler *s;
static OsmtalkScheduler *schedulers[MOST_SCHEDULERS];
static int	nschedulers = 0;

static Queue outbox[NQUEUES];
static OsmtalkTicket *tickets[MOST];	/* that are ready or started, by age */
static int	ntickets = 0;
static OsmtalkTicket *picked[MOST];
static int	npicked;

static size_t body_bytes;		/* of the events that are claimed */
static OsmtalkRest rest;		/* what is said of what is beyond them, if there is any */
static int	nsuspects;			/* that were found and not picked */
static int	surplus;			/* tickets for which there was no row */
static int	move_to;			/* an endpoint, or NOBODY: where what is claimed goes */

/* ---- the outbox ---- */

static void *
checked(void *pointer)
{
	if (pointer == NULL)
		abort();
	return pointer;
}

/* Where the row of that id is, or would be. */
static int
position_of(const Queue *q, int64_t id)
{
	int			low = 0;
	int			high = q->nrows;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (q->rows[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static Row *
row_of(int64_t hash, int64_t id)
{
	Queue	   *q = &outbox[hash];
	int			i = position_of(q, id);

	return i < q->nrows && q->rows[i].id == id ? &q->rows[i] : NULL;
}

static void
insert(int64_t hash, int64_t id, int64_t due_at, bool suspect)
{
	Queue	   *q = &outbox[hash];
	int			i = position_of(q, id);

	if (q->nrows == q->capacity)
	{
		q->capacity = q->capacity ? q->capacity * 2 : 16;
		q->rows = checked(realloc(q->rows, q->capacity * sizeof(Row)));
	}
	memmove(&q->rows[i + 1], &q->rows[i], (q->nrows - i) * sizeof(Row));
	q->rows[i] = (Row) {id, due_at, suspect, false};
	q->nrows++;
}

static void
delete(int64_t hash, int64_t id)
{
	Queue	   *q = &outbox[hash];
	Row		   *row = checked(row_of(hash, id));

	memmove(row, row + 1, (--q->nrows - (row - q->rows)) * sizeof(Row));
}

static int
rows_left(void)
{
	int			n = 0;

	for (int i = 0; i < NQUEUES; i++)
		n += outbox[i].nrows;
	return n;
}

/* ---- what the worker does ---- */

static void
done(OsmtalkTicket *t, OsmtalkVerdict verdict)
{
	free(t->delivery);
	osmtalk_scheduler_done(s, t, verdict);
}

static void
fresh(int max_in_flight, int max_per_endpoint)
{
	while (ntickets > 0)
		done(tickets[--ntickets], OSMTALK_NOT_SENT);
	for (int i = 0; i < NQUEUES; i++)
		outbox[i].nrows = 0;

	/* schedulers live as long as their process; a test leaves its own behind */
	s = schedulers[nschedulers++] = checked(osmtalk_scheduler_create());
	if (nschedulers == MOST_SCHEDULERS)
		abort();
	osmtalk_scheduler_set_limits(s, max_in_flight, max_per_endpoint);
	body_bytes = 500;
	rest = OSMTALK_REST_AS_FOUND;
	surplus = nsuspects = 0;
	move_to = NOBODY;
}

static OsmtalkEndpoint *
endpoint(int64_t hash)
{
	return checked(osmtalk_scheduler_endpoint(s, hash, 0));
}

/* Rows that are in the outbox, and found. */
static void
add(int64_t hash, int64_t first, int count)
{
	for (int i = 0; i < count; i++)
	{
		insert(hash, first + i, 0, false);
		if (!osmtalk_scheduler_found(s, endpoint(hash), first + i))
			abort();
	}
}

/* More of an endpoint that has some, or had. */
static void
add_more(int64_t hash, int count)
{
	const Queue *q = &outbox[hash];
	int64_t		last = endpoint(hash)->cursor;

	if (q->nrows > 0 && q->rows[q->nrows - 1].id > last)
		last = q->rows[q->nrows - 1].id;
	add(hash, last + 1, count);
}

/*
 * Reads up to n rows and takes those that may be sent, with the tickets, of
 * which those not used become NULL.  Returns how many were read.
 */
static int
take_rows(OsmtalkTicket **some, int n, int64_t hash, int64_t after, int64_t until, int64_t now, int64_t *last)
{
	Queue	   *q = &outbox[hash];
	int			used = 0;
	int			nread = 0;

	*last = after;
	for (int i = position_of(q, after + 1); i < q->nrows && q->rows[i].id <= until && nread < n; i++)
	{
		Row		   *row = &q->rows[i];
		OsmtalkTicket *t = some[used];
		Delivery   *d;
		bool		ok = true;

		nread++;
		*last = row->id;
		if (row->claimed)
			continue;
		if (row->due_at > now)
			ok = osmtalk_scheduler_found_later(s, t->endpoint, row->id, row->due_at);
		else if (row->suspect && !t->suspect)
		{
			ok = osmtalk_scheduler_found_suspect(s, t->endpoint, row->id);
			nsuspects++;
		}
		else
		{
			row->claimed = true;
			t->delivery = d = checked(malloc(sizeof(*d)));
			*d = (Delivery) {hash, row->id};
			used++;
		}
		if (!ok)
			abort();
	}
	return nread;
}

/* Up to most; those that are picked may be more than are claimed then. */
static int
pick_some(int most, int64_t now)
{
	OsmtalkTicket *t;

	for (npicked = 0; npicked < most && (t = osmtalk_scheduler_pick(s, now)) != NULL; npicked++)
		picked[npicked] = t;
	return npicked;
}

/* Claims what was picked, as claim.c does; returns how many became ready. */
static int
claim_picked(int64_t now)
{
	static OsmtalkTicket *some[MOST];
	int			before = ntickets;
	int64_t		last;

	for (int i = 0; i < npicked; i++)
	{
		OsmtalkTicket *t = picked[i];
		OsmtalkEndpoint *e = t->endpoint;
		int			n = 0;
		int			nread;

		if (t->id != 0)
			(void) take_rows(&t, 1, e->hash, t->id - 1, t->id, now, &last);
		else if (e->mark == 0)
		{
			e->mark = 1;		/* one window for all of its tickets */
			for (int j = i; j < npicked; j++)
				if (picked[j]->endpoint == e && picked[j]->id == 0)
					some[n++] = picked[j];
			nread = take_rows(some, n, e->hash, e->cursor, INT64_MAX, now, &last);
			osmtalk_scheduler_passed(s, e, last, nread < n ? OSMTALK_REST_NONE : rest);
		}
	}
	for (int i = 0; i < npicked; i++)
		picked[i]->endpoint->mark = 0;
	for (int i = 0; i < npicked; i++)
	{
		OsmtalkTicket *t = picked[i];
		Delivery   *d = t->delivery;

		if (d == NULL)
		{
			osmtalk_scheduler_done(s, t, OSMTALK_NOT_SENT);
			surplus++;
			continue;
		}
		if (move_to != NOBODY)
			osmtalk_scheduler_move(s, t, endpoint(move_to));
		osmtalk_scheduler_ready(s, t, d->id, body_bytes, now);
		tickets[ntickets++] = t;
	}
	npicked = 0;
	return ntickets - before;
}

static int
claim(int64_t now)
{
	(void) pick_some(MOST - ntickets, now);
	return claim_picked(now);
}

static int
start_all(int64_t now)
{
	int			n = 0;

	while (osmtalk_scheduler_start(s, now) != NULL)
		n++;
	return n;
}

/* Claims and starts all that may be; returns how many were started. */
static int
go(int64_t now)
{
	(void) claim(now);
	return start_all(now);
}

/* Ends a ticket; its row is gone then, or free again. */
static void
end(OsmtalkTicket *t, OsmtalkVerdict verdict, bool is_over)
{
	Delivery   *d = t->delivery;
	int			i;

	for (i = 0; tickets[i] != t; i++)
		;
	memmove(&tickets[i], &tickets[i + 1], (--ntickets - i) * sizeof(*tickets));
	if (is_over)
		delete(d->hash, d->id);
	else
		row_of(d->hash, d->id)->claimed = false;
	done(t, verdict);
}

/* Ends all requests of an endpoint, or of all endpoints. */
static void
finish(int64_t hash, OsmtalkVerdict verdict)
{
	OsmtalkTicket *next;

	for (OsmtalkTicket *t = osmtalk_scheduler_oldest(s); t != NULL; t = next)
	{
		next = t->younger;
		if (hash == ALL || t->endpoint->hash == hash)
			end(t, verdict, true);
	}
}

/* Those that have been ready since before then are claimed again; returns how many. */
static int
hand_back_stale(int64_t before)
{
	OsmtalkTicket *t;
	int			n = 0;

	for (; (t = osmtalk_scheduler_stale(s, before)) != NULL; n++)
	{
		Delivery	d = *(Delivery *) t->delivery;
		bool		suspect = t->suspect;
		OsmtalkEndpoint *e;

		end(t, OSMTALK_NOT_SENT, false);
		nsuspects += suspect;
		e = checked(osmtalk_scheduler_endpoint(s, d.hash, d.id));
		if (!(suspect ? osmtalk_scheduler_found_suspect(s, e, d.id) : osmtalk_scheduler_found(s, e, d.id)))
			abort();
	}
	return n;
}

static int
count(int64_t hash, bool started)
{
	int			n = 0;

	for (int i = 0; i < ntickets; i++)
		n += (hash == ALL || tickets[i]->endpoint->hash == hash) &&
			(tickets[i]->stage == OSMTALK_TICKET_STARTED) == started;
	return n;
}

static int
in_flight_of(int64_t hash)
{
	return count(hash, true);
}

static int
ready_of(int64_t hash)
{
	return count(hash, false);
}

/* Lets an endpoint answer until its window is as large as that, or at its cap. */
static void
prove(int64_t hash, int answers)
{
	add_more(hash, answers);
	while (outbox[hash].nrows > 0 && go(0) > 0)
		finish(hash, OSMTALK_ANSWERED);
	if (outbox[hash].nrows > 0)
		abort();
}

/* ---- windows and turns ---- */

/* First of all: what others have used before would hide it. */
static void
test_memory(void)
{
	struct rusage before;
	struct rusage after;
	OsmtalkEndpoint *e;

	fresh(256, 32);
	e = endpoint(1);
	getrusage(RUSAGE_SELF, &before);
	for (int i = 1; i <= 1000000; i++)
		(void) osmtalk_scheduler_found(s, e, i);
	getrusage(RUSAGE_SELF, &after);
	CHECK(e->found == 1000000, "a million events of an endpoint are counted");
	CHECK(e->late_capacity == 0 && after.ru_maxrss - before.ru_maxrss < 2048,
		  "and cost no memory: %ld kB", after.ru_maxrss - before.ru_maxrss);
	CHECK(pick_some(10, 0) == 2 && picked[0]->id == 0 && picked[1]->id == 0, "they are claimed from the cursor on");
	CHECK(e->found == 999998, "what is picked is not counted with them");
	CHECK(claim_picked(0) == 0 && e->found == 0 && !e->more, "and a claim that meets the end says how many there were");
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL && pick_some(1, 0) == 0, "none of them is left then");
}

static void
test_window(void)
{
	fresh(256, 32);
	add(1, 1, 2000);
	CHECK(go(0) == 2 && ready_of(1) == 0, "an endpoint starts with two requests in flight");
	finish(1, OSMTALK_ANSWERED);
	CHECK(go(0) == 4, "each answer adds one");
	end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	CHECK(go(0) == 2, "one for itself, and one more");
	for (int i = 0; i < 10; i++)
	{
		finish(1, OSMTALK_ANSWERED);
		go(0);
	}
	CHECK(in_flight_of(1) == 32, "up to the cap: %d", in_flight_of(1));
	finish(1, OSMTALK_NO_ANSWER);
	go(0);
	CHECK(in_flight_of(1) == 1, "a sick endpoint is probed with one request");
	finish(1, OSMTALK_NO_ANSWER);
	CHECK(go(0) == 1, "and again");
	finish(1, OSMTALK_ANSWERED);
	CHECK(go(0) == 2, "and grows back as it answers");
	finish(1, OSMTALK_ANSWERED);
	CHECK(go(0) == 4, "answer by answer");
	finish(1, OSMTALK_NOT_SENT);
	CHECK(go(0) == 4, "what was not sent says nothing");

	fresh(256, 32);
	add(1, 1, 10);
	go(0);
	finish(1, OSMTALK_NOT_SENT);
	CHECK(go(0) == 2 && ready_of(1) == 0, "not of a fresh one either");
}

static void
test_order(void)
{
	int64_t		last = 0;
	bool		in_order = true;

	fresh(64, 8);
	add(1, 1, 500);
	while (rows_left() > 0 && go(0) > 0)
	{
		for (OsmtalkTicket *t = osmtalk_scheduler_oldest(s); t != NULL; t = t->younger)
		{
			in_order &= t->id == last + 1;
			last = t->id;
		}
		finish(1, OSMTALK_ANSWERED);
	}
	CHECK(in_order && last == 500, "the events of an endpoint leave in the order of their ids: %d", (int) last);
	CHECK(surplus == 0, "none is asked for that is not there");

	fresh(64, 8);
	rest = OSMTALK_REST_UNKNOWN;
	add(1, 1, 1);
	insert(1, 2, 0, false);
	go(0);
	CHECK(in_flight_of(1) == 1 && surplus == 0, "what was not found is not asked for");
	CHECK(go(0) == 1 && rows_left() == 2, "but if there may be more, it is looked for");
	finish(1, OSMTALK_ANSWERED);
	CHECK(go(0) == 0 && surplus > 0, "until there is nothing");
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL, "then that is known");
}

static void
test_turns(void)
{
	int			counts[4] = {0};

	fresh(6, 32);
	for (int i = 1; i <= 3; i++)
		prove(i, 40);
	for (int i = 1; i <= 3; i++)
		add_more(i, 100);
	CHECK(pick_some(6, 0) == 6, "three endpoints want more than there is");
	for (int i = 0; i < npicked; i++)
		counts[picked[i]->endpoint->hash]++;
	CHECK(counts[1] == 2 && counts[2] == 2 && counts[3] == 2, "endpoints take turns to claim: %d %d %d", counts[1], counts[2], counts[3]);
	claim_picked(0);
	claim(0);
	start_all(0);
	CHECK(in_flight_of(ALL) == 6, "max_in_flight holds");
	for (int i = 1; i <= 3; i++)
		CHECK(in_flight_of(i) == 2, "and take turns to send: %d has %d", i, in_flight_of(i));
	for (int i = 0; i < 30; i++)
	{
		end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
		go(0);
	}
	for (int i = 1; i <= 3; i++)
		CHECK(in_flight_of(i) == 2 && outbox[i].nrows == 90, "they go on to: %d has sent %d", i, 100 - outbox[i].nrows);
}

/* Where there are many slots, an endpoint has some of its events claimed in a row. */
static void
test_long_turns(void)
{
	bool		in_turn = true;

	fresh(256, 32);
	for (int i = 0; i < 40; i++)
		prove(i, 40);
	for (int i = 0; i < 40; i++)
		add_more(i, 1000);
	pick_some(320, 0);
	for (int i = 0; i < npicked; i++)
		in_turn &= picked[i]->endpoint == picked[i / 8 * 8]->endpoint;
	CHECK(npicked == 320 && in_turn, "a turn is of eight events");
	in_turn = true;
	for (int i = 8; i < npicked; i += 8)
		in_turn &= picked[i]->endpoint == endpoint((picked[i - 8]->endpoint->hash + 1) % 40);
	CHECK(in_turn, "and then it is the next endpoint's");
	claim_picked(0);
	pick_some(3, 0);
	claim_picked(0);
	pick_some(8, 0);
	CHECK(picked[0]->endpoint == picked[4]->endpoint && picked[4]->endpoint != picked[5]->endpoint, "one that was cut short goes on");
	claim_picked(0);
}

/* ---- limits ---- */

static void
test_limits(void)
{
	fresh(100, 50);
	prove(1, 60);
	add_more(1, 1000);
	go(0);
	CHECK(in_flight_of(1) == 50, "a window grows to max_in_flight_per_endpoint");
	osmtalk_scheduler_set_limits(s, 100, 10);
	CHECK(go(0) == 0 && in_flight_of(1) == 50, "a lowered one takes nothing new, what is in flight runs on");
	for (int i = 0; i < 40; i++)
		end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	CHECK(go(0) == 0, "until it is met");
	end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	CHECK(go(0) == 1, "and then goes on");
	osmtalk_scheduler_set_limits(s, 100, 20);
	CHECK(go(0) == 0, "a raised one is not used at once");
	finish(1, OSMTALK_ANSWERED);
	go(0);
	CHECK(in_flight_of(1) == 20, "but as it answers: %d", in_flight_of(1));
	osmtalk_scheduler_set_limits(s, 5, 20);
	CHECK(go(0) == 0, "max_in_flight is lowered, too");
	finish(1, OSMTALK_ANSWERED);
	CHECK(go(0) == 5, "and holds");
	osmtalk_scheduler_set_limits(s, 1, 1);
	finish(1, OSMTALK_ANSWERED);
	CHECK(go(0) == 1, "one at a time works");
	osmtalk_scheduler_set_limits(s, 100, 3);
	CHECK(go(0) == 0 && in_flight_of(1) == 1, "the window starts from there");
	finish(1, OSMTALK_ANSWERED);
	CHECK(go(0) == 2, "and grows");

	fresh(1, 1);
	add(1, 1, 2);
	CHECK(go(0) == 1, "one at a time works for a fresh endpoint");
	finish(1, OSMTALK_NO_ANSWER);
	CHECK(go(0) == 1, "and for a sick one");

	fresh(1, 32);
	prove(1, 40);
	add_more(1, 10);
	add(2, 1000, 100);
	for (int i = 0; i < 10; i++)
	{
		go(0);
		finish(2, OSMTALK_NO_ANSWER);
		finish(1, OSMTALK_ANSWERED);
	}
	CHECK(outbox[1].nrows < 10 && outbox[2].nrows < 100, "with one slot a sick and a healthy one take turns: sent %d and %d",
		  100 - outbox[2].nrows, 10 - outbox[1].nrows);
}

static void
test_hung_endpoints(void)
{
	int			sick = 0;
	int			others = 0;

	fresh(256, 32);
	prove(1, 40);
	for (int i = 0; i < 500; i++)
		add(1000 + i, 1, 10);
	go(0);
	CHECK(in_flight_of(ALL) == 64, "fresh endpoints hold a quarter of the slots: %d", in_flight_of(ALL));
	CHECK(ready_of(ALL) == 0, "and nothing beyond");
	add_more(1, 1000);
	go(0);
	CHECK(in_flight_of(ALL) == 64 + 32 && in_flight_of(1) == 32, "a healthy one gets all of its window beside them");
	finish(1, OSMTALK_ANSWERED);
	go(5 * SECOND);
	CHECK(in_flight_of(1) == 32, "the healthy one keeps it when they have been hanging for a while");
	CHECK(in_flight_of(ALL) == 96 + 32, "they count as sick then, and other fresh ones come in, up to three eighths: %d", in_flight_of(ALL));
	finish(1, OSMTALK_ANSWERED);
	for (int i = 1; i < 40; i++)
	{
		finish(1, OSMTALK_ANSWERED);
		finish(ALL, OSMTALK_NO_ANSWER);
		go(5 * SECOND + i);
		sick = others = 0;
		for (int j = 0; j < ntickets; j++)
		{
			sick += tickets[j]->endpoint->hash >= 1000 && tickets[j]->endpoint->tried;
			others += tickets[j]->endpoint->hash >= 1000 && !tickets[j]->endpoint->tried;
		}
		if (sick > 32 || others > 64)
			break;
	}
	CHECK(sick == 32 && others == 0, "when all have timed out, the sick hold an eighth: %d", sick);
	for (int i = 0; i < 500; i++)
		add(2000 + i, 1, 10);
	go(6 * SECOND);
	CHECK(in_flight_of(1) == 0 && in_flight_of(2000) == 1 && in_flight_of(ALL) == 96, "fresh ones get theirs beside them, together three eighths: %d",
		  in_flight_of(ALL));
	add_more(1, 10);
	go(6 * SECOND);
	for (int i = 0; i < 500; i++)
		finish(2000 + i, OSMTALK_NOT_SENT);
	go(6 * SECOND);
	CHECK(in_flight_of(1) == 10 && in_flight_of(ALL) == 10 + 32 + 32, "and half of that while the healthy one is served: %d",
		  in_flight_of(ALL));

	/* in small */
	fresh(8, 4);
	for (int i = 1; i <= 4; i++)
	{
		add(i, 1, 1);
		go(0);
		finish(i, OSMTALK_NO_ANSWER);
	}
	for (int i = 1; i <= 4; i++)
		add_more(i, 5);
	go(0);
	CHECK(in_flight_of(ALL) == 1 && ready_of(ALL) == 0, "an eighth is never more: %d", in_flight_of(ALL));
	for (int i = 5; i <= 8; i++)
		add(i, 1, 5);
	go(0);
	CHECK(in_flight_of(ALL) == 3 && in_flight_of(5) + in_flight_of(6) == 2, "nor are three: %d", in_flight_of(ALL));
	finish(ALL, OSMTALK_NO_ANSWER);
	go(0);
	CHECK(in_flight_of(ALL) == 3 && in_flight_of(6) + in_flight_of(7) + in_flight_of(8) == 2, "the others have their turn");
}

/* Many that hang come at once with few that do not, found in no order. */
static void
test_fresh_order(void)
{
	bool		in_order = true;

	fresh(256, 32);
	for (int i = 0; i < 500; i++)
	{
		int			nth = i * 7919 % 500;

		checked(osmtalk_scheduler_endpoint(s, 1000 + nth, nth * 10));
		add(1000 + nth, nth * 10 + 1, 10);
	}
	pick_some(MOST, 0);
	for (int i = 0; i < npicked; i++)
		in_order &= picked[i]->endpoint->hash == 1000 + i;
	CHECK(npicked == 64 && in_order, "of the fresh, those whose events came first are claimed for first");
	claim_picked(0);
	start_all(0);

	finish(1000, OSMTALK_NOT_SENT);
	pick_some(MOST, 0);
	CHECK(npicked == 1 && picked[0]->endpoint->hash == 1000, "one that had no result has its turn again");
	claim_picked(0);
	start_all(0);
	for (int i = 0; i < 32; i++)
		end(osmtalk_scheduler_oldest(s), OSMTALK_NO_ANSWER, true);
	pick_some(32, 0);
	CHECK(npicked == 32 && picked[31]->endpoint->hash == 1000 + 63 + 32,
		  "then the next: those that have one in flight come after all others");
	claim_picked(0);
	start_all(0);

	fresh(256, 32);
	for (int i = 0; i < 10; i++)
	{
		checked(osmtalk_scheduler_endpoint(s, 1000 + i, i * 10));
		add(1000 + i, i * 10 + 1, 10);
	}
	go(0);
	for (int i = 0; i < 10; i++)
		in_order &= in_flight_of(1000 + i) == 2;
	CHECK(in_order, "and get their second then");
	for (int i = 0; i < 10; i += 2)
		finish(1000 + i, OSMTALK_ANSWERED);
	finish(ALL, OSMTALK_NO_ANSWER);
	while (rows_left() > 0 && go(0) > 0)
		finish(ALL, OSMTALK_ANSWERED);
	CHECK(rows_left() == 0, "nobody is lost on the way");
}

static void
test_slow(void)
{
	OsmtalkTicket *t;

	fresh(64, 32);
	body_bytes = LARGE;			/* nothing ahead */
	prove(1, 40);
	prove(2, 40);
	add_more(1, 1000);
	add_more(2, 2);
	go(0);
	finish(2, OSMTALK_ANSWERED);
	CHECK(in_flight_of(1) == 32, "a proven endpoint fills its window");
	add(3, 1, 1);
	go(SECOND / 2);
	CHECK(in_flight_of(3) == 1, "a fresh one gets in beside it");
	end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	CHECK(go(SECOND - 1) == 1, "so long as no request is older than a second it stays proven");
	end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	finish(3, OSMTALK_ANSWERED);
	CHECK(go(SECOND) == 0, "then it counts as sick, and gets no more");
	while (in_flight_of(1) > 24)
		end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	for (int i = 4; i <= 8; i++)
		add(i, 1, 1);
	CHECK(go(SECOND) == 4, "while it holds three eighths of the slots, fresh ones get a sixteenth, and the fifth waits");
	end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	CHECK(go(SECOND) == 0, "they count, too");
	while (in_flight_of(1) > 19)
		end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	CHECK(go(SECOND) == 1, "when it holds five less, that one gets in");
	add_more(2, 1000);
	go(SECOND);
	CHECK(in_flight_of(2) == 32, "the healthy take what is left: %d", in_flight_of(2));
	finish(2, OSMTALK_ANSWERED);
	/* all but the one that began shortly before the second was over */
	for (t = osmtalk_scheduler_oldest(s); t != NULL && t->since == 0; t = osmtalk_scheduler_oldest(s))
		end(t, OSMTALK_ANSWERED, true);
	CHECK(go(SECOND) > 0 && in_flight_of(1) > 24 && in_flight_of(ALL) == 64, "it is proven again when those have ended, and gets what is free: %d",
		  in_flight_of(1));
}

/* ---- claiming ahead ---- */

static void
test_ahead(void)
{
	int			windows;

	fresh(256, 32);
	add(1, 1, 100);
	CHECK(claim(0) == 2, "a fresh endpoint has nothing claimed ahead");
	CHECK(start_all(0) == 2 && claim(0) == 0, "nor when it has been sent");
	end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	windows = endpoint(1)->window;
	claim(0);
	CHECK(windows == 3 && ntickets == 3 * 8, "a proven one has seven windows beyond its own: %d", ntickets);
	start_all(0);
	CHECK(claim(0) == 0 && in_flight_of(1) == 3, "those in flight count as its window");

	fresh(256, 32);
	prove(1, 40);
	add_more(1, 1000);
	CHECK(claim(0) == 256 && start_all(0) == 32 && claim(0) == 0, "so that many are claimed at a time");
	finish(1, OSMTALK_ANSWERED);
	CHECK(start_all(0) == 32, "and are sent as slots get free");
	finish(1, OSMTALK_NO_ANSWER);
	CHECK(start_all(0) == 1 && claim(0) == 0, "a sick one gets one at a time of what is ready, and no more is claimed");
	while (hand_back_stale(1) > 0)
		;
	CHECK(ready_of(1) == 0 && claim(2) == 0, "when that was handed back, it has nothing ahead");
	finish(1, OSMTALK_NO_ANSWER);
	CHECK(claim(2) == 1 && start_all(2) == 1, "but what it is probed with");

	fresh(256, 32);
	prove(1, 40);
	body_bytes = LARGE / 64;
	add_more(1, 1);
	go(0);
	finish(1, OSMTALK_ANSWERED);
	add_more(1, 1000);
	claim(0);
	CHECK(ntickets == 32 + 63, "large ones ahead are limited to a megabyte: %d", ntickets - 32);
	body_bytes = LARGE;
	while (ready_of(1) > 0)
	{
		finish(1, OSMTALK_ANSWERED);
		start_all(0);
	}
	claim(0);
	CHECK(ntickets == 32 + 63, "by the size of the last, that of the next is not known: %d", ntickets - 32);
	while (ready_of(1) > 0)
	{
		finish(1, OSMTALK_ANSWERED);
		start_all(0);
	}
	claim(0);
	CHECK(ntickets == 32, "very large ones are not claimed ahead: %d", ntickets - 32);

	/* all together */
	fresh(100, 50);
	for (int i = 1; i <= 20; i++)
		prove(i, 60);
	for (int i = 1; i <= 20; i++)
		add_more(i, 1000);
	CHECK(claim(0) == 200, "in all, no more than twice the slots are held: %d", ntickets);
	CHECK(start_all(0) == 100 && claim(0) == 100, "beside those in flight");
	CHECK(osmtalk_scheduler_held(s) == 200 && osmtalk_scheduler_in_flight(s) == 100, "those are the figures");
	for (int i = 1; i <= 20; i++)
		CHECK(in_flight_of(i) == 5 && ready_of(i) >= 8 && ready_of(i) <= 12,
			  "and they are shared fairly, but for a turn: %d has %d and %d ready", i, in_flight_of(i), ready_of(i));

	/* one that arrives */
	fresh(64, 64);
	prove(1, 100);
	prove(2, 100);
	add_more(1, 1000);
	while (go(0) > 0)
		;
	CHECK(in_flight_of(1) == 64 && osmtalk_scheduler_held(s) == 128, "one endpoint has all slots, and all that may be ready");
	add_more(2, 1000);
	for (int i = 0; i < 64; i++)
	{
		end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
		go(0);
	}
	CHECK(in_flight_of(2) >= 30, "another that comes has half of them when they have changed hands: %d", in_flight_of(2));
	add(3, 1, 2);
	end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	go(0);
	CHECK(in_flight_of(3) == 1, "a fresh one the first that is free");

	fresh(256, 100);
	prove(1, 110);
	prove(2, 110);
	add_more(1, 2000);
	while (go(0) > 0)
		;
	CHECK(in_flight_of(1) == 100, "one endpoint has its window, and much ahead: %d", osmtalk_scheduler_held(s));
	add_more(2, 2000);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_HUNGRY, "another comes, for which there are slots");
	for (int i = 0; i < 3; i++)
		go(0);
	CHECK(in_flight_of(2) == 100, "it gets its window at once: %d", in_flight_of(2));

	/* and one that falls sick */
	fresh(256, 32);
	prove(1, 40);
	add_more(1, 1000);
	go(0);
	finish(1, OSMTALK_NO_ANSWER);
	add(2, 1, 2);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_HUNGRY, "a fresh endpoint comes when one with much ahead has fallen sick");
	go(0);
	CHECK(in_flight_of(2) == 2, "and is not kept waiting by that: %d", in_flight_of(2));

	fresh(256, 32);
	prove(1, 40);
	add_more(1, 1000);
	go(0);
	add(2, 1, 2);
	go(SECOND);
	CHECK(in_flight_of(2) == 2, "nor if it is slow: %d", in_flight_of(2));
}

static void
test_appetite(void)
{
	fresh(64, 32);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL, "nothing is to be claimed when there is nothing");
	add(1, 1, 3);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_HUNGRY, "an event that could be sent is");
	go(0);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL, "not if its endpoint's window is full");
	end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_HUNGRY, "but when it has room again");
	go(0);
	finish(1, OSMTALK_ANSWERED);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL && rows_left() == 0, "nothing is left");

	fresh(256, 32);
	prove(1, 40);
	add_more(1, 1000);
	go(0);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL, "an endpoint has as much ready as may be");
	end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_CONTENT, "when one is sent, nothing waits for the next to be claimed");
	start_all(0);
	while (osmtalk_scheduler_held(s) > 17)
	{
		end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
		start_all(0);
	}
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_CONTENT, "so it is while many are ready");
	end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	start_all(0);
	CHECK(in_flight_of(1) == 32 && osmtalk_scheduler_held(s) == 16 && osmtalk_scheduler_appetite(s, 0) == OSMTALK_HUNGRY,
		  "when they run low, it is time to claim");
	CHECK(claim(0) == 32 * 7 - 16 && osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL, "many at once");
	add(2, 1, 1);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_PATIENT, "another endpoint need not wait until then, but a little");

	fresh(32, 32);
	prove(1, 40);
	prove(2, 40);
	add_more(1, 1000);
	go(0);
	claim(0);
	CHECK(in_flight_of(1) == 32 && osmtalk_scheduler_held(s) == 64, "all slots are taken, and much is ready");
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL, "as much as may be");
	add_more(2, 1000);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL, "another endpoint could not be sent to");
	add(3, 1, 1);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_CONTENT, "a fresh one may be claimed, but not sent to");
	end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_PATIENT, "until a slot is free");

	fresh(256, 32);
	prove(1, 40);
	add(2, 1, 100);
	go(0);
	finish(2, OSMTALK_NO_ANSWER);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_HUNGRY, "a sick endpoint is probed at once while there is nothing else to do");
	add_more(1, 1);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_HUNGRY, "or something to claim for another");
	go(0);
	finish(2, OSMTALK_NO_ANSWER);
	CHECK(in_flight_of(1) == 1 && osmtalk_scheduler_appetite(s, 0) == OSMTALK_PATIENT, "not while others are served");
	add(3, 1, 1);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_PATIENT, "nor is a fresh one, which is claimed with the next that comes");
	go(0);
	finish(2, OSMTALK_NO_ANSWER);
	finish(3, OSMTALK_ANSWERED);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_PATIENT, "it waits");
	finish(1, OSMTALK_ANSWERED);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_HUNGRY, "until they are done");
}

/* ---- what is known one by one ---- */

static void
test_late(void)
{
	OsmtalkEndpoint *e;
	OsmtalkTicket *t;
	bool		in_order = true;

	fresh(256, 4);
	e = endpoint(1);
	add(1, 10, 1);
	go(0);
	CHECK(e->cursor == 10 && in_flight_of(1) == 1, "the cursor is at the last that was claimed");
	add(1, 7, 1);
	add(1, 12, 1);
	add(1, 5, 1);
	finish(1, OSMTALK_ANSWERED);
	CHECK(e->nlate - e->first_late == 2 && e->found == 1, "those that come up to it are known by their ids");
	CHECK(pick_some(10, 0) == 3 && picked[0]->id == 7 && picked[1]->id == 5 && picked[2]->id == 0, "and claimed one by one, as they came, before the rest");
	CHECK(claim_picked(0) == 3 && start_all(0) == 3 && surplus == 0, "all are there");
	t = osmtalk_scheduler_oldest(s);
	CHECK(t->id == 7 && t->younger->id == 5 && t->younger->younger->id == 12, "and leave so");
	CHECK(e->cursor == 12, "the cursor stays where it is");
	finish(1, OSMTALK_ANSWERED);
	CHECK(go(0) == 0 && osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL, "once each");
	if (!osmtalk_scheduler_found(s, e, 6))
		abort();
	CHECK(go(0) == 0 && surplus == 1, "one that is there no more does no harm");

	osmtalk_scheduler_passed(s, e, 100000, OSMTALK_REST_NONE);
	add(1, 2000, 1024);
	CHECK(e->cursor == 100000 && !e->more, "a thousand of them are kept");
	add(1, 1500, 1);
	CHECK(e->cursor == 1499 && e->more && e->late_capacity <= 1024, "for more the cursor is set back: %d", (int) e->cursor);
	add(1, 4000, 500);
	add(1, 1400, 1);
	CHECK(e->cursor == 1399 && e->late_capacity <= 1024, "and again: %d", (int) e->cursor);
	CHECK(e->found == 500, "what is beyond it then is counted");
	for (int i = 0; i < 1000 && rows_left() > 0; i++)
	{
		go(0);
		finish(1, OSMTALK_ANSWERED);
	}
	CHECK(rows_left() == 0, "all are sent, none is passed over: %d", rows_left());
	for (int i = 0; i < 1000 && osmtalk_scheduler_appetite(s, 0) != OSMTALK_FULL; i++)
		go(0);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL, "and that is known in the end");

	/* a few at a time, however many in all */
	fresh(256, 4);
	e = endpoint(1);
	osmtalk_scheduler_passed(s, e, 100000, OSMTALK_REST_NONE);
	for (int i = 1; i <= 3000; i++)
	{
		add(1, i, 1);
		go(0);
		in_order &= osmtalk_scheduler_oldest(s)->id == i;
		finish(1, OSMTALK_ANSWERED);
	}
	CHECK(in_order && e->cursor == 100000 && e->late_capacity <= 16, "those that were handed out take no room");

	/* where the cursor goes */
	fresh(256, 4);
	e = checked(osmtalk_scheduler_endpoint(s, 1, 50));
	CHECK(e->cursor == 50 && endpoint(1) == e && e->cursor == 50, "a cursor is given to a new endpoint only");
	osmtalk_scheduler_found_more(s, e, 60);
	CHECK(e->cursor == 50, "it is not set forward by what may be there");
	osmtalk_scheduler_found_more(s, e, 40);
	CHECK(e->cursor == 40, "but back");
	osmtalk_scheduler_passed(s, e, 30, OSMTALK_REST_NONE);
	CHECK(e->cursor == 40, "and not back by what was passed");
}

static void
test_later(void)
{
	int64_t		at;
	int			sent = 0;

	fresh(10, 10);
	CHECK(!osmtalk_scheduler_next_due(s, &at), "nothing is due later");
	for (int i = 0; i < 100; i++)
		insert(1, 1 + i, 1000 + (i * 37) % 100, false);
	osmtalk_scheduler_found_more(s, endpoint(1), 0);
	rest = OSMTALK_REST_UNKNOWN;
	for (int i = 0; i < 1000 && endpoint(1)->more; i++)
		claim(0);
	CHECK(ntickets == 0 && endpoint(1)->cursor == 100, "what is not due yet is passed");
	CHECK(osmtalk_scheduler_next_due(s, &at) && at == 1000, "the first is known");
	CHECK(osmtalk_scheduler_appetite(s, 999) == OSMTALK_FULL && go(999) == 0, "nothing before its time");
	CHECK(osmtalk_scheduler_appetite(s, 1000) == OSMTALK_HUNGRY, "at its time it is wanted");
	for (int64_t now = 1000; now < 1100; now++)
	{
		OsmtalkTicket *t;

		if (go(now) != 1 || (osmtalk_scheduler_next_due(s, &at) && at != now + 1))
			break;
		t = osmtalk_scheduler_oldest(s);
		if ((t->id - 1) * 37 % 100 + 1000 != now)
			break;
		sent++;
		finish(1, OSMTALK_ANSWERED);
	}
	CHECK(sent == 100 && rows_left() == 0, "each is sent at its time: %d", sent);
	CHECK(!osmtalk_scheduler_next_due(s, &at) && surplus > 0 && endpoint(1)->refs == 0, "and nothing is left");

	fresh(10, 10);
	for (int i = 0; i < 20; i++)
	{
		insert(1, 1 + i, 0, false);
		if (!osmtalk_scheduler_found_later(s, endpoint(1), 1 + i, 5))
			abort();
	}
	osmtalk_scheduler_passed(s, endpoint(1), 20, OSMTALK_REST_NONE);
	CHECK(go(4) == 0 && go(5) == 2, "many at a time are sent as the window allows");
	for (int i = 0; i < 20; i++)
	{
		finish(1, OSMTALK_ANSWERED);
		go(6);
	}
	CHECK(rows_left() == 0, "all of them");
}

static void
test_suspects(void)
{
	OsmtalkTicket *t;
	int			claimed_with = 0;
	int			in_flight_with = 0;
	int			sent = 0;

	fresh(100, 10);
	add(1, 1, 2);
	go(0);
	insert(2, 100, 0, true);
	insert(2, 101, 0, true);
	insert(2, 102, 0, false);
	osmtalk_scheduler_found_more(s, endpoint(2), 0);
	CHECK(go(0) == 0 && pick_some(10, 0) == 0, "a suspect that is met waits until nothing is in flight");
	claim_picked(0);
	add(1, 3, 10);
	CHECK(go(0) == 0 && ready_of(ALL) == 0, "and nothing overtakes it");
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL, "nor is to be claimed");
	end(osmtalk_scheduler_oldest(s), OSMTALK_ANSWERED, true);
	CHECK(go(0) == 0 && in_flight_of(ALL) == 1, "not until all are done");
	finish(1, OSMTALK_ANSWERED);
	CHECK(osmtalk_scheduler_appetite(s, 0) == OSMTALK_HUNGRY, "then it is its turn");
	while (sent < 10)
	{
		int			n = pick_some(10, 0);

		if (n == 0 || !picked[0]->suspect)
			break;
		claimed_with += n > 1;
		claim_picked(0);
		claimed_with += pick_some(10, 0);
		claim_picked(0);
		start_all(0);
		in_flight_with += in_flight_of(ALL) > 1;
		claimed_with += pick_some(10, 0);
		claim_picked(0);
		t = osmtalk_scheduler_oldest(s);
		if (t == NULL || !t->suspect || t->endpoint->hash != 2)
			break;
		sent++;
		CHECK(start_all(0) == 0 && osmtalk_scheduler_appetite(s, 0) == OSMTALK_FULL, "it goes, and nothing else is sent or claimed");
		finish(2, OSMTALK_ANSWERED);
	}
	CHECK(sent == 2, "two of them, one by one: %d", sent);
	CHECK(in_flight_with == 0, "nothing is in flight with them");
	CHECK(claimed_with == 0, "nor claimed: %d", claimed_with);
	/* what was picked when they were done */
	claim_picked(0);
	go(0);
	CHECK(in_flight_of(1) > 1 && in_flight_of(2) == 1, "then the others go on");
	finish(ALL, OSMTALK_ANSWERED);
	while (rows_left() > 0 && go(0) > 0)
		finish(ALL, OSMTALK_ANSWERED);
	CHECK(rows_left() == 0 && endpoint(2)->refs == 0, "and all are sent");

	/* others that are ready go before it */
	fresh(10, 10);
	prove(1, 20);
	add_more(1, 50);
	go(0);
	insert(2, 100, 0, true);
	if (!osmtalk_scheduler_found_suspect(s, endpoint(2), 100))
		abort();
	finish(1, OSMTALK_ANSWERED);
	CHECK(ready_of(1) > 0 && pick_some(10, 0) == 0, "a suspect waits for those that are ready, too");
	CHECK(start_all(0) == 10, "which go on");
	while (in_flight_of(1) > 0)
	{
		finish(1, OSMTALK_ANSWERED);
		start_all(0);
	}
	CHECK(pick_some(1, 0) == 1 && picked[0]->suspect, "until they are done");
	CHECK(claim_picked(0) == 1 && hand_back_stale(1) == 1, "a suspect can be handed back");
	CHECK(go(1) == 1 && osmtalk_scheduler_oldest(s)->suspect, "and is sent alone again");
	finish(2, OSMTALK_NO_ANSWER);
	CHECK(go(1) > 1 && in_flight_of(1) > 1, "a suspect without an answer stops nobody");
}

/* ---- handing back, moving, forgetting ---- */

static void
test_stale(void)
{
	int64_t		at;
	OsmtalkTicket *t;
	OsmtalkTicket *middle;
	int			left;

	fresh(256, 8);
	CHECK(osmtalk_scheduler_stale(s, SECOND) == NULL && !osmtalk_scheduler_ready_since(s, &at), "nothing is ready");
	prove(1, 20);
	prove(2, 20);
	add_more(1, 30);
	claim(10);
	add_more(2, 30);
	claim(20);
	CHECK(osmtalk_scheduler_ready_since(s, &at) && at == 10, "since when the oldest has been ready is known");
	CHECK(osmtalk_scheduler_stale(s, 10) == NULL, "nothing has been for longer");
	t = osmtalk_scheduler_stale(s, 11);
	CHECK(t != NULL && t->id == outbox[1].rows[0].id && t->endpoint->hash == 1, "the oldest is found");
	start_all(25);
	CHECK(in_flight_of(1) == 8 && in_flight_of(2) == 8, "some are sent");
	CHECK(hand_back_stale(11) == 22, "those that remain of one endpoint are handed back: %d", ready_of(1));
	CHECK(ready_of(1) == 0 && ready_of(2) == 22 && endpoint(1)->held == 0, "and none of the other's");
	CHECK(osmtalk_scheduler_ready_since(s, &at) && at == 20, "its are the oldest now");
	CHECK(claim(30) == 22 && surplus == 0, "they are claimed again, each by its id");

	/* out of the middle of an endpoint's, from the end, from the beginning */
	left = ready_of(2);
	t = endpoint(2)->ready_first;
	middle = t->next_ready;
	end(middle, OSMTALK_NOT_SENT, false);
	CHECK(ready_of(2) == left - 1 && t->next_ready != NULL && endpoint(2)->ready_first == t, "one is taken out of the middle");
	end(endpoint(2)->ready_last, OSMTALK_NOT_SENT, false);
	end(t, OSMTALK_NOT_SENT, false);
	CHECK(ready_of(2) == left - 3, "and the last, and the first");
	add_more(2, 1);
	claim(40);
	for (int i = 0; i < 5; i++)
	{
		finish(ALL, OSMTALK_ANSWERED);
		start_all(50);
	}
	CHECK(ntickets == 0 && outbox[1].nrows == 0 && outbox[2].nrows == 3, "all others are sent, and what came after them");

	/* one only */
	fresh(256, 8);
	add(1, 1, 1);
	claim(0);
	CHECK(hand_back_stale(1) == 1 && endpoint(1)->ready_first == NULL && endpoint(1)->ready_last == NULL, "the only one");
	CHECK(go(2) == 1 && in_flight_of(1) == 1, "is sent later");
	CHECK(osmtalk_scheduler_stale(s, SECOND) == NULL && !osmtalk_scheduler_ready_since(s, &at), "what is in flight is not stale");
}

static void
test_move(void)
{
	fresh(256, 8);
	add(1, 1, 10);
	move_to = 2;
	CHECK(claim(0) == 2 && ready_of(2) == 2, "events go to another endpoint than they were queued for");
	move_to = NOBODY;
	CHECK(endpoint(1)->held == 0 && endpoint(2)->held == 2, "and count there");
	CHECK(start_all(0) == 2 && in_flight_of(2) == 2, "they are in flight there");
	CHECK(go(0) == 2 && in_flight_of(1) == 2, "and make room where they were");
	finish(2, OSMTALK_NO_ANSWER);
	CHECK(go(0) == 0 && !endpoint(1)->tried, "what comes of them is the other's");
	add(2, 100, 10);
	go(0);
	CHECK(in_flight_of(2) == 1, "which is sick now");
	finish(1, OSMTALK_ANSWERED);
	move_to = 2;
	claim(0);
	CHECK(ready_of(2) == 6 && endpoint(2)->held == 6 && start_all(0) == 0, "those that are moved there wait for its window: %d", ready_of(2));
	CHECK(hand_back_stale(1) == 6 && endpoint(1)->nlate - endpoint(1)->first_late == 6, "handed back, they are where they were queued");
	finish(2, OSMTALK_ANSWERED);
	move_to = NOBODY;
	while (rows_left() > 0 && go(2) > 0)
		finish(ALL, OSMTALK_ANSWERED);
	CHECK(rows_left() == 0 && osmtalk_scheduler_in_flight(s) + osmtalk_scheduler_held(s) == 0, "nothing is left over");
}

static void
test_clear(void)
{
	int64_t		at;

	fresh(10, 10);
	prove(3, 20);
	body_bytes = LARGE;
	add_more(3, 1);
	go(0);
	finish(3, OSMTALK_ANSWERED);
	add(1, 10, 100);
	go(0);
	claim(0);
	add(1, 5, 1);
	if (!osmtalk_scheduler_found_later(s, endpoint(1), 4, SECOND) || !osmtalk_scheduler_found_suspect(s, endpoint(2), 1))
		abort();
	osmtalk_scheduler_found_more(s, endpoint(3), 0);
	CHECK(in_flight_of(1) == 2, "some are in flight");
	osmtalk_scheduler_clear(s);
	CHECK(osmtalk_scheduler_in_flight(s) == 2 && osmtalk_scheduler_appetite(s, 2 * SECOND) == OSMTALK_FULL &&
		  !osmtalk_scheduler_next_due(s, &at), "clear forgets what is not claimed, not what is in flight");
	CHECK(endpoint(1)->found == 0 && !endpoint(1)->more && endpoint(1)->refs + endpoint(2)->refs == 0, "of all kinds");
	finish(ALL, OSMTALK_ANSWERED);
	CHECK(osmtalk_scheduler_in_flight(s) == 0 && go(2 * SECOND) == 0, "and nothing is left");
	osmtalk_scheduler_found_more(s, endpoint(1), 0);
	CHECK(endpoint(1)->cursor == 0 && osmtalk_scheduler_appetite(s, 2 * SECOND) == OSMTALK_HUNGRY, "it is read again from the beginning");
	rest = OSMTALK_REST_UNKNOWN;
	CHECK(go(2 * SECOND) == 4 && osmtalk_scheduler_oldest(s)->id == 5, "with what is known of the endpoint");
	do
		finish(1, OSMTALK_ANSWERED);
	while (rows_left() > 0 && go(2 * SECOND) > 0);
	CHECK(rows_left() == 0, "and all is sent");

	/* what is ready is kept, too */
	fresh(10, 4);
	prove(1, 10);
	add_more(1, 100);
	go(0);
	osmtalk_scheduler_clear(s);
	CHECK(ready_of(1) == osmtalk_scheduler_held(s) && ready_of(1) > 0, "what is ready is kept");
	osmtalk_scheduler_found_more(s, endpoint(1), 0);
	rest = OSMTALK_REST_UNKNOWN;
	for (int i = 0; i < 1000 && rows_left() > 0; i++)
	{
		finish(1, OSMTALK_ANSWERED);
		go(0);
	}
	CHECK(rows_left() == 0, "and not claimed twice");
}

/* Makes some endpoints that are new or unused. */
static void
make(int64_t first, int n)
{
	for (int64_t hash = first; hash < first + n; hash++)
		endpoint(hash)->failures = 1;
}

static void
test_forgotten(void)
{
	int64_t		known = 0;
	OsmtalkTicket *t;
	OsmtalkTicket *other;

	fresh(10, 10);
	make(1, 1024);
	for (int64_t hash = 1024; hash >= 1; hash--)
		known += endpoint(hash)->failures;
	CHECK(known == 1024, "a thousand endpoints are remembered: %d", (int) known);
	make(2000, 1);
	known = 0;
	for (int64_t hash = 1024; hash >= 2; hash--)
		known += endpoint(hash)->failures;
	CHECK(known == 1023 && endpoint(2000)->failures == 1, "when another comes, one is forgotten: %d", (int) known);
	CHECK(endpoint(1)->failures == 0, "the first");

	/* unused since */
	fresh(10, 10);
	make(1, 1024);
	add(1, 1, 1);
	CHECK(go(0) == 1, "an endpoint is used");
	finish(1, OSMTALK_ANSWERED);
	make(2000, 1);
	CHECK(endpoint(1)->answered, "it is remembered longer than those that were not");
	CHECK(endpoint(2)->failures == 0, "such as the second");
	make(3000, 1024);
	CHECK(!endpoint(1)->answered, "but not for ever");

	fresh(1000, 10);
	make(1, 4000);
	known = 0;
	for (int64_t hash = 4000; hash >= 1; hash--)
		known += endpoint(hash)->failures;
	CHECK(known == 4000, "more of them, if there are more slots: %d", (int) known);
	make(5000, 1);
	CHECK(endpoint(2)->failures == 1 && endpoint(1)->failures == 0, "four times as many");

	/* what is of use is kept, and its use is seen when it has passed */
	fresh(10, 10);
	make(1, 8);
	add(1, 1, 1);
	t = pick_some(10, 0) == 1 ? picked[0] : NULL;
	add(2, 1, 1);
	other = osmtalk_scheduler_pick(s, 0);
	if (t == NULL || other == NULL)
		abort();
	osmtalk_scheduler_ready(s, t, 1, 1, 0);
	CHECK(osmtalk_scheduler_start(s, 0) == t, "one is in flight, one is picked");
	if (!osmtalk_scheduler_found(s, endpoint(3), 1) || !osmtalk_scheduler_found_later(s, endpoint(4), 1, SECOND) ||
		!osmtalk_scheduler_found_suspect(s, endpoint(5), 1))
		abort();
	osmtalk_scheduler_found_more(s, endpoint(6), 0);
	osmtalk_scheduler_passed(s, endpoint(7), 10, OSMTALK_REST_NONE);
	if (!osmtalk_scheduler_found(s, endpoint(7), 5))
		abort();
	make(10000, 5000);
	for (int64_t hash = 1; hash <= 7; hash++)
		CHECK(endpoint(hash)->failures == 1, "an endpoint with events is not forgotten: %d", (int) hash);
	CHECK(endpoint(8)->failures == 0, "one without is");
	osmtalk_scheduler_done(s, t, OSMTALK_ANSWERED);
	osmtalk_scheduler_clear(s);
	make(20000, 5000);
	for (int64_t hash = 1; hash <= 7; hash++)
		CHECK(endpoint(hash)->failures == (hash == 2), "those are unused later, but for the one that is picked: %d", (int) hash);
	osmtalk_scheduler_done(s, other, OSMTALK_NOT_SENT);

	fresh(10, 10);
	add(1, 1, 1);
	claim(0);
	endpoint(1)->failures = 2;
	make(10000, 2000);
	CHECK(endpoint(1)->failures == 2 && start_all(0) == 1, "nor is one that has something ready");
	endpoint(1)->failures = 0;
	finish(1, OSMTALK_ANSWERED);
	CHECK(osmtalk_scheduler_in_flight(s) + osmtalk_scheduler_held(s) == 0, "and that is sent");
	endpoint(2)->name = strdup("a name goes with its endpoint");
	make(10000, 2000);
	CHECK(endpoint(2)->name == NULL, "a name is forgotten with it");

	/* many that are in use are all kept */
	fresh(10, 10);
	for (int64_t hash = 0; hash < NQUEUES; hash++)
		add(hash, 1, 1);
	while (rows_left() > 0 && go(0) > 0)
		finish(ALL, OSMTALK_ANSWERED);
	CHECK(rows_left() == 0, "as many as have events are known, and sent to");
}

/* ---- at random ---- */

#define MOST_EVENTS 20000

/* what has come, and was not looked at yet */
typedef struct Unseen
{
	int64_t		hash;
	int64_t		id;
} Unseen;

static struct
{
	int			max_in_flight;
	int			max_per_endpoint;
	int			nhashes;
	int64_t		now;
	int64_t		probed;		/* when a sick one was picked last */
	int			added;
	int			sent[MOST_EVENTS];	/* how often, by id */
	int			nsent;
	Unseen		unseen[MOST_EVENTS * 4];
	int			first_unseen;
	int			nunseen;
	/* what was found broken, how often */
	int			counts;
	int			limits;
	int			shares;
	int			ahead;
	int			company;		/* of a suspect that is claimed */
	int			in_flight_with;	/* a suspect */
	int			idle;
	int			appetites;
	int			places;
} r;

/* from the seed; as good as is needed here, and the same everywhere */
static uint32_t seed;

static int
random_below(int n)
{
	seed = seed * 1664525u + 1013904223u;
	return (int) ((seed >> 8) % (uint32_t) n);
}

static bool
one_in(int n)
{
	return random_below(n) == 0;
}

typedef enum Standing
{
	PROVEN,
	FRESH,
	SICK
} Standing;

static Standing
standing_of(const OsmtalkEndpoint *e)
{
	if (e->slow > 0)
		return SICK;
	return e->answered ? PROVEN : e->tried ? SICK : FRESH;
}

static int
share(int part)
{
	return r.max_in_flight >= part ? r.max_in_flight / part : 1;
}

static int
window_of(const OsmtalkEndpoint *e)
{
	return e->window < r.max_per_endpoint ? e->window : r.max_per_endpoint;
}

/*
 * How many slots the endpoints of each standing have, with those that are
 * claimed for: what an endpoint holds beyond its window is of no use to it yet.
 */
static void
count_standings(int has[3], bool started_only)
{
	memset(has, 0, 3 * sizeof(int));
	for (int i = 0; i < ntickets + npicked; i++)
	{
		OsmtalkTicket *t = i < ntickets ? tickets[i] : picked[i - ntickets];
		OsmtalkEndpoint *e = t->endpoint;

		if (t->stage == OSMTALK_TICKET_STARTED)
			has[standing_of(e)]++;
		else if (!started_only && count(e->hash, true) + e->mark < window_of(e))
		{
			has[standing_of(e)]++;
			e->mark++;
		}
	}
	for (int i = 0; i < ntickets + npicked; i++)
		(i < ntickets ? tickets[i] : picked[i - ntickets])->endpoint->mark = 0;
}

/* Whether one more of that standing keeps to the shares. */
static bool
is_due(Standing standing, const int has[3], bool started_only)
{
	int			unproven = share(4) + share(8);
	int			newcomers = 0;

	if (unproven > share(2))
		unproven = share(2);
	for (int i = 0; i < ntickets; i++)
		newcomers += tickets[i]->newcomer && (!started_only || tickets[i]->stage == OSMTALK_TICKET_STARTED);
	for (int i = 0; i < npicked && !started_only; i++)
		newcomers += picked[i]->newcomer;
	return standing == PROVEN || (standing == FRESH && newcomers < r.max_in_flight / 16) ||
		(has[FRESH] + has[SICK] < unproven && has[standing] < share(standing == FRESH && has[PROVEN] == 0 ? 4 : 8));
}

static bool
has_suspect(void)
{
	for (int i = 0; i < ntickets; i++)
		if (tickets[i]->suspect)
			return true;
	for (int i = 0; i < npicked; i++)
		if (picked[i]->suspect)
			return true;
	return false;
}

static int
tickets_of(const OsmtalkEndpoint *e)
{
	int			n = 0;

	for (int i = 0; i < ntickets; i++)
		n += tickets[i]->endpoint == e;
	for (int i = 0; i < npicked; i++)
		n += picked[i]->endpoint == e;
	return n;
}

/* Counts that the scheduler keeps, against the tickets that there are. */
static void
check_counts(void)
{
	int			started = count(ALL, true);

	r.counts += osmtalk_scheduler_in_flight(s) != started;
	r.counts += osmtalk_scheduler_held(s) != ntickets - started + npicked;
	for (int i = 0; i < ntickets; i++)
	{
		const OsmtalkEndpoint *e = tickets[i]->endpoint;
		int			in_flight = count(e->hash, true);
		int			ready = 0;
		int			slow = 0;

		for (int j = 0; j < ntickets; j++)
		{
			ready -= tickets[j]->endpoint == e && tickets[j]->stage == OSMTALK_TICKET_READY && !tickets[j]->suspect;
			slow += tickets[j]->endpoint == e && tickets[j]->stage == OSMTALK_TICKET_STARTED &&
				tickets[j]->since <= r.now - SECOND;
		}
		for (const OsmtalkTicket *t = e->ready_first; t != NULL; t = t->next_ready)
		{
			ready++;
			r.counts += t->endpoint != e || t->stage != OSMTALK_TICKET_READY || (t->next_ready == NULL && t != e->ready_last);
		}
		r.counts += e->in_flight != in_flight || e->held + e->in_flight != tickets_of(e);
		r.counts += e->slow != slow;
		r.counts += ready != 0;
		r.counts += e->found < 0 || e->refs < 0 || e->first_late > e->nlate || e->nlate > e->late_capacity;
		r.counts += e->late_capacity > 1024;
		r.limits += e->window < 1;
	}
}

/* While others are served, the sick wait a little for each other. */
static bool
waits_to_probe(int standing, const int has[3])
{
	return standing == SICK && has[PROVEN] > 0 && r.now < r.probed + 10000;
}

/* Not for so many endpoints that some are forgotten: to ask would make them. */
static bool
anything_to_claim(void)
{
	int			has[3];

	if (nsuspects > 0 || has_suspect())
		return false;
	count_standings(has, false);
	if (osmtalk_scheduler_held(s) >= 2 * r.max_in_flight && has[PROVEN] + has[FRESH] + has[SICK] >= r.max_in_flight)
		return false;
	for (int64_t hash = 0; hash < r.nhashes; hash++)
	{
		const OsmtalkEndpoint *e = endpoint(hash);

		if ((e->found > 0 || e->more || e->first_late < e->nlate) &&
			e->in_flight + e->held < window_of(e) && is_due(standing_of(e), has, false) && !waits_to_probe(standing_of(e), has))
			return true;
	}
	return false;
}

static bool
anything_to_start(void)
{
	int			has[3];
	bool		alone = false;

	if (osmtalk_scheduler_in_flight(s) >= r.max_in_flight)
		return false;
	count_standings(has, true);
	for (int i = 0; i < ntickets; i++)
		alone |= tickets[i]->suspect && tickets[i]->stage == OSMTALK_TICKET_STARTED;
	for (int i = 0; i < ntickets; i++)
	{
		const OsmtalkEndpoint *e = tickets[i]->endpoint;

		if (tickets[i]->stage == OSMTALK_TICKET_READY && !tickets[i]->suspect && !alone &&
			e->in_flight < window_of(e) && is_due(standing_of(e), has, true))
			return true;
		if (tickets[i]->stage == OSMTALK_TICKET_READY && tickets[i]->suspect && osmtalk_scheduler_in_flight(s) == 0)
			return true;
	}
	return false;
}

static void
pick_at_random(int most)
{
	OsmtalkAppetite appetite = osmtalk_scheduler_appetite(s, r.now);

	for (npicked = 0; npicked < most;)
	{
		int			has[3];
		bool		suspect = has_suspect();
		int			held = osmtalk_scheduler_held(s);
		OsmtalkTicket *t = osmtalk_scheduler_pick(s, r.now);
		const OsmtalkEndpoint *e;
		int			n;

		if (t == NULL)
		{
			count_standings(has, false);
			r.appetites += npicked == 0 && appetite != OSMTALK_FULL && !(appetite != OSMTALK_HUNGRY && waits_to_probe(SICK, has));
			break;
		}
		r.appetites += npicked == 0 && appetite == OSMTALK_FULL;
		count_standings(has, false);	/* before this one */
		e = t->endpoint;
		n = tickets_of(e);
		nsuspects -= t->suspect;
		r.company += suspect || (t->suspect && ntickets + npicked > 0);
		if (!t->suspect)
		{
			int			ahead = 7 * window_of(e);

			r.shares += !is_due(standing_of(e), has, false) || waits_to_probe(standing_of(e), has);
			r.counts += t->newcomer != (standing_of(e) == FRESH);
			if (standing_of(e) == SICK)
				r.probed = r.now;
			if (standing_of(e) != PROVEN)
				ahead = 0;
			else if (ahead > (int) (LARGE / (e->bytes + 1)))
				ahead = (int) (LARGE / (e->bytes + 1));
			r.ahead += n >= window_of(e) + ahead;
			/* what could be sent need not wait for what is ahead */
			r.ahead += held >= 2 * r.max_in_flight && standing_of(e) == PROVEN && n >= window_of(e);
		}
		picked[npicked++] = t;
	}
	if (npicked < most && r.nhashes < 1000)
		r.idle += anything_to_claim();
	check_counts();
}

static void
start_at_random(int most)
{
	while (most-- > 0)
	{
		int			has[3];
		OsmtalkTicket *t = osmtalk_scheduler_start(s, r.now);
		const OsmtalkEndpoint *e;
		bool		due;

		if (t == NULL)
		{
			r.idle += anything_to_start();
			break;
		}
		e = t->endpoint;
		t->stage = OSMTALK_TICKET_READY;	/* as it was before */
		count_standings(has, true);
		due = is_due(standing_of(e), has, true);
		t->stage = OSMTALK_TICKET_STARTED;
		r.limits += osmtalk_scheduler_in_flight(s) > r.max_in_flight;
		if (t->suspect)
			r.in_flight_with += osmtalk_scheduler_in_flight(s) > 1;
		else
		{
			r.limits += e->in_flight > window_of(e) || e->in_flight > r.max_per_endpoint;
			r.shares += !due;
		}
		for (int i = 0; i < ntickets; i++)
			r.in_flight_with += tickets[i] != t && tickets[i]->suspect && tickets[i]->stage == OSMTALK_TICKET_STARTED;
	}
}

static void
come(int64_t hash, int64_t id)
{
	if (r.nunseen == (int) (sizeof(r.unseen) / sizeof(*r.unseen)))
		abort();
	r.unseen[r.nunseen++] = (Unseen) {hash, id};
}

/* Rows that are new, or were written again. */
static void
look(int most)
{
	for (; most > 0 && r.first_unseen < r.nunseen; most--)
	{
		Unseen		u = r.unseen[r.first_unseen++];
		const Row  *row = row_of(u.hash, u.id);
		OsmtalkEndpoint *e;

		if (row == NULL || row->claimed)
			continue;
		e = checked(osmtalk_scheduler_endpoint(s, u.hash, u.id - 1));
		if (one_in(50) && u.id > e->cursor)
			osmtalk_scheduler_found_more(s, e, e->cursor);
		else if (!osmtalk_scheduler_found(s, e, u.id))
			abort();
	}
	rest = r.first_unseen < r.nunseen ? OSMTALK_REST_UNKNOWN : OSMTALK_REST_AS_FOUND;
}

static void
reload(void)
{
	osmtalk_scheduler_clear(s);
	nsuspects = 0;
	for (int64_t hash = 0; hash < r.nhashes; hash++)
		if (outbox[hash].nrows > 0)
			osmtalk_scheduler_found_more(s, endpoint(hash), 0);
	r.first_unseen = r.nunseen = 0;
	rest = OSMTALK_REST_AS_FOUND;
}

/* Ends a request, with one result or another. */
static void
finish_at_random(OsmtalkTicket *t)
{
	OsmtalkEndpoint *e = t->endpoint;
	Delivery	d = *(Delivery *) t->delivery;
	OsmtalkVerdict verdict = e->hash % 5 == 0 ? OSMTALK_NO_ANSWER : one_in(20) ? random_below(3) : OSMTALK_ANSWERED;
	bool		is_over = verdict == OSMTALK_ANSWERED || one_in(2);
	int			window = e->window;

	if (!is_over)
	{
		Row		   *row = row_of(d.hash, d.id);

		row->due_at = r.now + random_below((int) SECOND);
		row->suspect = one_in(50);
		come(d.hash, d.id);
	}
	else
	{
		r.sent[d.id]++;
		r.nsent++;
	}
	end(t, verdict, is_over);
	if (verdict == OSMTALK_ANSWERED)
		r.limits += e->window != (window < r.max_per_endpoint ? window + 1 : r.max_per_endpoint);
	else
		r.limits += e->window != (verdict == OSMTALK_NO_ANSWER ? 1 : window);
}

static OsmtalkTicket *
random_started(void)
{
	OsmtalkTicket *t;
	int			n = count(ALL, true);

	if (n == 0)
		return NULL;
	n = random_below(n);
	for (t = osmtalk_scheduler_oldest(s); n > 0; n--)
		t = t->younger;
	return t;
}

static void
random_limits(void)
{
	r.max_in_flight = one_in(3) ? 1 + random_below(8) : 8 + random_below(40);
	r.max_per_endpoint = 1 + random_below(12);
	osmtalk_scheduler_set_limits(s, r.max_in_flight, r.max_per_endpoint);
}

static void
random_step(bool adding)
{
	int			hash = random_below(r.nhashes);
	OsmtalkTicket *t;

	r.now += random_below(one_in(20) ? (int) SECOND : (int) SECOND / 50);
	if (adding)
		for (int i = random_below(8); i > 0 && r.added < MOST_EVENTS - 1; i--)
		{
			/* mostly in the order of their ids; of one endpoint many at a time */
			int64_t		id = ++r.added;

			hash = one_in(2) ? hash : random_below(r.nhashes);
			insert(hash, id, one_in(5) ? r.now + random_below((int) SECOND * 2) : 0, one_in(300));
			if (one_in(20) && r.nunseen > r.first_unseen)
			{
				/* this one is seen before another */
				Unseen		other = r.unseen[r.nunseen - 1];

				r.unseen[r.nunseen - 1] = (Unseen) {hash, id};
				come(other.hash, other.id);
			}
			else
				come(hash, id);
		}

	if (one_in(2))
	{
		look(one_in(3) ? random_below(5) : MOST_EVENTS);
		body_bytes = one_in(20) ? (size_t) LARGE / (1 + random_below(50)) : 500;
		move_to = one_in(30) ? random_below(r.nhashes) : NOBODY;
		pick_at_random(one_in(4) ? 1 + random_below(5) : MOST - ntickets);
		if (one_in(100))
		{
			/* the transaction fails */
			while (npicked > 0)
				osmtalk_scheduler_done(s, picked[--npicked], OSMTALK_NOT_SENT);
			reload();
		}
		else
			claim_picked(r.now);
	}
	if (!one_in(3))
		start_at_random(one_in(4) ? 1 : MOST);
	for (int i = random_below(16); i > 0 && (t = random_started()) != NULL; i--)
		/* some hang for seconds */
		if (t->endpoint->hash % 7 != 2 || t->since < r.now - 3 * SECOND)
			finish_at_random(t);
	if (one_in(10))
		hand_back_stale(r.now - SECOND);
	if (one_in(500))
		hand_back_stale(r.now + 1);
	if (one_in(300))
		random_limits();
	if (one_in(500))
		reload();
	if (r.now % 8 == 0)
		r.places += osmtalk_scheduler_in_flight(s) + osmtalk_scheduler_held(s) != ntickets;
}

static void
test_random(uint32_t with, int nhashes, int events)
{
	int			twice = 0;
	int			steps = 0;
	int64_t		at;

	fresh(20, 5);
	memset(&r, 0, sizeof(r));
	r.probed = -SECOND;
	seed = with;
	r.nhashes = nhashes;
	random_limits();
	while (r.added < events)
	{
		random_step(true);
		steps++;
	}
	for (int i = 0; i < 200000 && r.nsent < r.added; i++)
	{
		random_step(false);
		steps++;
	}
	for (int i = 1; i <= r.added; i++)
		twice += r.sent[i] > 1;
	printf("# %d events of %d endpoints in %d steps\n", r.added, nhashes, steps);
	CHECK(r.nsent == r.added && rows_left() == 0 && ntickets == 0, "at random: every event is sent: %d of %d", r.nsent, r.added);
	CHECK(twice == 0, "and none twice: %d", twice);
	CHECK(r.limits == 0, "no limit or window is exceeded: %d", r.limits);
	CHECK(r.shares == 0, "nor the shares of the fresh and the sick: %d", r.shares);
	CHECK(r.ahead == 0, "nor what may be claimed ahead: %d", r.ahead);
	CHECK(r.in_flight_with == 0, "a suspect is alone in flight: %d", r.in_flight_with);
	CHECK(r.company == 0, "nothing is claimed with it: %d", r.company);
	CHECK(r.idle == 0, "no slot is idle that could be used: %d", r.idle);
	CHECK(r.appetites == 0, "there is something to claim if and only if it is said: %d", r.appetites);
	CHECK(r.counts == 0 && r.places == 0, "all counts are right: %d", r.counts + r.places);
	look(MOST_EVENTS);
	for (int i = 0; i < 10000 && osmtalk_scheduler_appetite(s, r.now) != OSMTALK_FULL; i++)
		claim(r.now);
	r.now += 100 * SECOND;
	for (int i = 0; i < 10000 && osmtalk_scheduler_appetite(s, r.now) != OSMTALK_FULL; i++)
		claim(r.now);
	CHECK(osmtalk_scheduler_appetite(s, r.now) == OSMTALK_FULL && !osmtalk_scheduler_next_due(s, &at) && ntickets == 0,
		  "and nothing is left to be claimed");
}

int
main(void)
{
	test_memory();
	test_window();
	test_order();
	test_turns();
	test_long_turns();
	test_limits();
	test_hung_endpoints();
	test_fresh_order();
	test_slow();
	test_ahead();
	test_appetite();
	test_late();
	test_later();
	test_suspects();
	test_stale();
	test_move();
	test_clear();
	test_forgotten();
	for (uint32_t i = 1; i <= 5; i++)
		test_random(i, 30, 5000);
	test_random(6, 3, 10000);
	test_random(7, 3000, 15000);
	return finish_checks();
}
