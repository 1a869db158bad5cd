/*
 * scheduler.c
 *		Which event is sent next.
 *
 * Turns between endpoints, and a window per endpoint, so that one that is
 * slow, dead or drowning in events takes nothing from the others.  What has
 * not proven itself may hold less than half of the slots: that leaves room for
 * the healthy before the first time-out has passed.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints.h"

#define SLOW_AFTER 1000000 /* microseconds */

/* what may be held in all, in slots */
#define MOST_HELD 2

/* events that an endpoint has claimed in a turn, since together they are found faster: a part of the slots, at most */
#define TURN_PART 32
#define TURN_MOST 8

/* while others are served, the sick are probed one after the other, at these intervals in microseconds */
#define PROBE_PAUSE 10000

/* ids of one endpoint that are known one by one; beyond that it is read again */
#define MOST_LATE 1024

/* ---- the scheduler ---- */

OsmtalkScheduler *
osmtalk_scheduler_create(void)
{
	OsmtalkScheduler *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->nbuckets = 64;
	s->buckets = calloc(s->nbuckets, sizeof(*s->buckets));
	if (s->buckets == NULL)
	{
		free(s);
		return NULL;
	}
	s->max_in_flight = s->max_per_endpoint = 1;
	return s;
}

void
osmtalk_scheduler_set_limits(OsmtalkScheduler *s, int max_in_flight, int max_per_endpoint)
{
	s->max_in_flight = max_in_flight;
	if (max_per_endpoint == s->max_per_endpoint)
		return;
	s->max_per_endpoint = max_per_endpoint;
	for (size_t i = 0; i < s->nbuckets; i++)
		for (OsmtalkEndpoint *e = s->buckets[i]; e != NULL; e = e->next_in_bucket)
			osmtalk_endpoint_place(s, e);
}

/* ---- what there is ---- */

static bool
push_late(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id)
{
	if (!osmtalk_endpoint_has_late(e))
		e->first_late = e->nlate = 0;
	if (e->nlate >= MOST_LATE)
	{
		osmtalk_scheduler_found_more(s, e, id - 1);
		return true;
	}
	if (!osmtalk_reserve((void **) &e->late, &e->late_capacity, e->nlate, sizeof(int64_t)))
		return false;
	e->late[e->nlate++] = id;
	osmtalk_endpoint_place(s, e);
	return true;
}

bool
osmtalk_scheduler_found(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id)
{
	if (id <= e->cursor)
		return push_late(s, e, id);
	e->found++;
	osmtalk_endpoint_place(s, e);
	return true;
}

void
osmtalk_scheduler_found_more(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t cursor)
{
	if (cursor < e->cursor)
		e->cursor = cursor;
	e->more = true;
	osmtalk_endpoint_place(s, e);
}

bool
osmtalk_scheduler_found_later(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id, int64_t due_at)
{
	if (!osmtalk_heap_push(&s->later, (OsmtalkLater){due_at, id, e}))
		return false;
	e->refs++;
	osmtalk_endpoint_place(s, e);
	return true;
}

bool
osmtalk_scheduler_found_suspect(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id)
{
	if (!osmtalk_reserve((void **) &s->suspects, &s->suspects_capacity, s->nsuspects, sizeof(OsmtalkSuspect)))
		return false;
	s->suspects[s->nsuspects++] = (OsmtalkSuspect){id, e};
	e->refs++;
	osmtalk_endpoint_place(s, e);
	return true;
}

void
osmtalk_scheduler_passed(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id, OsmtalkRest rest)
{
	if (id > e->cursor)
		e->cursor = id;
	if (rest == OSMTALK_REST_NONE)
	{
		e->found = 0;
		e->more = false;
	}
	else if (rest == OSMTALK_REST_UNKNOWN)
		e->more = true;
	osmtalk_endpoint_place(s, e);
}

void
osmtalk_scheduler_clear(OsmtalkScheduler *s)
{
	for (size_t i = 0; i < s->nbuckets; i++)
		for (OsmtalkEndpoint *e = s->buckets[i]; e != NULL; e = e->next_in_bucket)
		{
			e->first_late = e->nlate = 0;
			e->found = 0;
			e->more = false;
			e->refs = 0;
			osmtalk_endpoint_place(s, e);
		}
	s->later.count = 0;
	s->nsuspects = 0;
}

/* ---- tickets ---- */

/* Brings what depends on the time up to it. */
static void
advance(OsmtalkScheduler *s, int64_t now)
{
	while (s->later.count > 0 && s->later.events[0].due_at <= now)
	{
		OsmtalkLater event = osmtalk_heap_pop(&s->later);

		if (!push_late(s, event.endpoint, event.id))
		{
			/* no memory: it stays where it was, there is room for it there */
			(void) osmtalk_heap_push(&s->later, event);
			break;
		}
		event.endpoint->refs--;
		osmtalk_endpoint_place(s, event.endpoint);
	}

	for (;;)
	{
		OsmtalkTicket *t = s->last_slow ? s->last_slow->younger : s->started.oldest;

		if (t == NULL || t->since > now - SLOW_AFTER)
			break;
		t->slow = true;
		s->last_slow = t;
		t->endpoint->slow++;
		osmtalk_endpoint_place(s, t->endpoint);
	}
}

static int
share(const OsmtalkScheduler *s, int part)
{
	return s->max_in_flight >= part ? s->max_in_flight / part : 1;
}

/*
 * The standing whose turn it is, or -1, given what each standing has, and
 * counts, and of how many their endpoint was fresh when they were picked.
 * Those that have not proven themselves come first, so that they get to, but
 * hold at most three eighths of the slots: what they hold for long makes the
 * others' transactions smaller, and so more.  The fresh have two of them, one
 * while others are served, and the sick one: the sick, however many, do not
 * keep a fresh one waiting once they are known.  Nor do those that hang with
 * all that they got when they were proven: newcomers have a sixteenth in any
 * case.
 */
static int
next_standing(const OsmtalkScheduler *s, const bool wants[STANDINGS], const int has[STANDINGS], int newcomers)
{
	int most = share(s, 4) + share(s, 8);
	bool room = has[FRESH] + has[SICK] < (most < share(s, 2) ? most : share(s, 2));

	if (wants[FRESH] && (newcomers < s->max_in_flight / 16 || (room && has[FRESH] < share(s, has[PROVEN] > 0 ? 8 : 4))))
		return FRESH;
	if (wants[SICK] && room && has[SICK] < share(s, 8))
		return SICK;
	return wants[PROVEN] ? PROVEN : -1;
}

/* Then only what could be sent at once is claimed for those that are proven. */
static bool
ahead_is_full(const OsmtalkScheduler *s)
{
	return s->held >= s->max_in_flight * MOST_HELD;
}

/* The standing whose turn it is to claim, or, of those that are hungry, to. */
static int
next_to_claim(const OsmtalkScheduler *s, bool hungry, const bool may[STANDINGS])
{
	bool wants[STANDINGS];
	int has[STANDINGS];

	for (int i = 0; i < STANDINGS; i++)
	{
		wants[i] = may[i] && (hungry ? s->hungry_of[i] > 0 : osmtalk_endpoints_to_claim(s, i));
		has[i] = s->claims_of[i];
	}
	if (ahead_is_full(s))
		wants[PROVEN] = may[PROVEN] && s->hungry_of[PROVEN] > 0 && has[PROVEN] + has[FRESH] + has[SICK] < s->max_in_flight;
	return next_standing(s, wants, has, s->newcomers);
}

static bool
suspects_turn(const OsmtalkScheduler *s)
{
	return s->nsuspects > 0 && s->in_flight + s->held == 0;
}

static bool
others_are_served(const OsmtalkScheduler *s)
{
	return s->claims_of[PROVEN] > 0 || osmtalk_endpoints_to_claim(s, PROVEN);
}

OsmtalkAppetite
osmtalk_scheduler_appetite(OsmtalkScheduler *s, int64_t now)
{
	static const bool all[STANDINGS] = {true, true, true};
	static const bool only_proven[STANDINGS] = {true};
	bool soon;

	advance(s, now);
	if (s->nsuspects > 0 || s->suspect_held || s->suspect_in_flight)
		return suspects_turn(s) ? OSMTALK_HUNGRY : OSMTALK_FULL;
	if (next_to_claim(s, false, all) < 0)
		return OSMTALK_FULL;
	/* soon: while these are sent, the next can be claimed */
	soon = s->held <= s->in_flight / 2;
	if (!soon && (s->in_flight >= s->max_in_flight || next_to_claim(s, true, all) < 0))
		return OSMTALK_CONTENT;
	/* others alone are not worth a transaction each time that one has failed */
	return others_are_served(s) && next_to_claim(s, !soon, only_proven) < 0 ? OSMTALK_PATIENT : OSMTALK_HUNGRY;
}

/*
 * What fails at once costs more than what succeeds: those that are well must
 * not pay for it.
 */
static bool
may_probe(const OsmtalkScheduler *s, int64_t now)
{
	return !others_are_served(s) || now >= s->next_probe || s->next_probe > now + PROBE_PAUSE;
}

/* Of that standing the endpoint for which is to be claimed next. */
static OsmtalkEndpoint *
next_in_turn(OsmtalkScheduler *s, int standing)
{
	OsmtalkRing *ring = &s->to_claim[standing];
	OsmtalkEndpoint *e = ring->cursor;

	if (standing == FRESH)
		return s->fresh.first;
	while (standing == PROVEN && ahead_is_full(s) && !e->hungry)
		e = e->places[TO_CLAIM].next;
	if (e != s->claiming)
	{
		s->claiming = e;
		s->claims_left = share(s, TURN_PART) < TURN_MOST ? share(s, TURN_PART) : TURN_MOST;
	}
	ring->cursor = e;
	if (--s->claims_left == 0)
	{
		ring->cursor = e->places[TO_CLAIM].next;
		s->claiming = NULL;
	}
	return e;
}

OsmtalkTicket *
osmtalk_scheduler_pick(OsmtalkScheduler *s, int64_t now)
{
	OsmtalkTicket *t;
	OsmtalkEndpoint *e;
	int standing = -1;

	advance(s, now);
	/* a suspect waits for the others to be done: they must not keep it waiting */
	if (!suspects_turn(s) && (s->nsuspects > 0 || s->suspect_held || s->suspect_in_flight || (standing = next_to_claim(s, false, (bool[]){true, true, may_probe(s, now)})) < 0))
		return NULL;
	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return NULL;

	if (suspects_turn(s))
	{
		OsmtalkSuspect first = s->suspects[--s->nsuspects];

		e = first.endpoint;
		e->refs--;
		t->id = first.id;
		t->suspect = true;
		s->suspect_held = true;
	}
	else
	{
		e = next_in_turn(s, standing);
		if (standing == SICK)
			s->next_probe = now + PROBE_PAUSE;
		t->newcomer = standing == FRESH;
		s->newcomers += t->newcomer;
		if (osmtalk_endpoint_has_late(e))
			t->id = e->late[e->first_late++];
		else if (e->found > 0)
			e->found--;
	}
	t->endpoint = e;
	t->since = now;
	t->stage = OSMTALK_TICKET_PICKED;
	s->held++;
	e->held++;
	osmtalk_endpoint_place(s, e);
	return t;
}

void
osmtalk_scheduler_ready(OsmtalkScheduler *s, OsmtalkTicket *t, int64_t id, size_t bytes, int64_t now)
{
	OsmtalkEndpoint *e = t->endpoint;

	t->id = id;
	t->since = now;
	t->stage = OSMTALK_TICKET_READY;
	osmtalk_tickets_append(&s->ready, t);
	e->bytes = bytes;
	if (t->suspect)
		s->suspect_ready = t;
	else
	{
		t->next_ready = NULL;
		if (e->ready_last != NULL)
			e->ready_last->next_ready = t;
		else
			e->ready_first = t;
		e->ready_last = t;
	}
	osmtalk_endpoint_place(s, e);
}

void
osmtalk_scheduler_move(OsmtalkScheduler *s, OsmtalkTicket *t, OsmtalkEndpoint *e)
{
	OsmtalkEndpoint *was = t->endpoint;

	if (e == was)
		return;
	was->held--;
	t->endpoint = e;
	e->held++;
	osmtalk_endpoint_place(s, was);
	osmtalk_endpoint_place(s, e);
}

/* Takes the first ticket that is ready at its endpoint, or the suspect. */
static void
unready(OsmtalkScheduler *s, OsmtalkTicket *t)
{
	OsmtalkEndpoint *e = t->endpoint;

	if (t == s->suspect_ready)
		s->suspect_ready = NULL;
	else
	{
		OsmtalkTicket **link = &e->ready_first;
		OsmtalkTicket *before = NULL;

		while (*link != t)
		{
			before = *link;
			link = &before->next_ready;
		}
		*link = t->next_ready;
		if (e->ready_last == t)
			e->ready_last = before;
	}
	osmtalk_tickets_remove(&s->ready, t);
}

OsmtalkTicket *
osmtalk_scheduler_start(OsmtalkScheduler *s, int64_t now)
{
	OsmtalkTicket *t;
	OsmtalkEndpoint *e;

	advance(s, now);
	if (s->in_flight >= s->max_in_flight || s->suspect_in_flight)
		return NULL;
	if (s->suspect_ready != NULL && s->in_flight == 0)
		t = s->suspect_ready;
	else
	{
		bool wants[STANDINGS];
		int standing;

		for (int i = 0; i < STANDINGS; i++)
			wants[i] = s->to_start[i].count > 0;
		standing = next_standing(s, wants, s->in_flight_of, s->newcomers_in_flight);
		if (s->max_in_flight == 1 && wants[PROVEN] && s->unproven_last)
			standing = PROVEN; /* a half of one is none */
		if (standing < 0)
			return NULL;
		e = s->to_start[standing].cursor;
		s->to_start[standing].cursor = e->places[TO_START].next;
		t = e->ready_first;
	}

	e = t->endpoint;
	unready(s, t);
	s->unproven_last = e->standing != PROVEN;
	t->stage = OSMTALK_TICKET_STARTED;
	t->since = now;
	osmtalk_tickets_append(&s->started, t);
	s->suspect_in_flight = t->suspect;
	if (t->suspect)
		s->suspect_held = false;
	s->held--;
	e->held--;
	s->newcomers_in_flight += t->newcomer;
	s->in_flight++;
	s->in_flight_of[e->standing]++;
	e->in_flight++;
	osmtalk_endpoint_place(s, e);
	return t;
}

OsmtalkTicket *
osmtalk_scheduler_stale(OsmtalkScheduler *s, int64_t before)
{
	OsmtalkTicket *t = s->ready.oldest;

	return t != NULL && t->since < before ? t : NULL;
}

/* The ticket is its endpoint's no more. */
static void
let_go(OsmtalkScheduler *s, OsmtalkTicket *t)
{
	OsmtalkEndpoint *e = t->endpoint;

	s->newcomers -= t->newcomer;
	if (t->stage != OSMTALK_TICKET_STARTED)
	{
		if (t->stage == OSMTALK_TICKET_READY)
			unready(s, t);
		if (t->suspect)
			s->suspect_held = false;
		s->held--;
		e->held--;
		return;
	}
	if (s->last_slow == t)
		s->last_slow = t->older;
	osmtalk_tickets_remove(&s->started, t);
	s->in_flight--;
	s->in_flight_of[e->standing]--;
	s->newcomers_in_flight -= t->newcomer;
	e->in_flight--;
	if (t->slow)
		e->slow--;
	if (t->suspect)
		s->suspect_in_flight = false;
}

bool
osmtalk_scheduler_is_proven(const OsmtalkTicket *t)
{
	return t->endpoint->answered;
}

void
osmtalk_scheduler_done(OsmtalkScheduler *s, OsmtalkTicket *t, OsmtalkVerdict verdict)
{
	OsmtalkEndpoint *e = t->endpoint;

	let_go(s, t);
	if (verdict == OSMTALK_ANSWERED)
	{
		e->answered = e->tried = true;
		if (e->window < s->max_per_endpoint)
			e->window++;
		else
			e->window = s->max_per_endpoint;
	}
	else if (verdict == OSMTALK_NO_ANSWER)
	{
		e->answered = false;
		e->tried = true;
		e->window = 1;
	}
	osmtalk_endpoint_place(s, e);
	free(t);
}

/* ---- figures ---- */

bool
osmtalk_scheduler_next_due(const OsmtalkScheduler *s, int64_t *at)
{
	if (s->later.count == 0)
		return false;
	*at = s->later.events[0].due_at;
	return true;
}

bool
osmtalk_scheduler_ready_since(const OsmtalkScheduler *s, int64_t *since)
{
	if (s->ready.oldest == NULL)
		return false;
	*since = s->ready.oldest->since;
	return true;
}

OsmtalkTicket *
osmtalk_scheduler_oldest_ready(const OsmtalkScheduler *s)
{
	return s->ready.oldest;
}

OsmtalkTicket *
osmtalk_scheduler_oldest(const OsmtalkScheduler *s)
{
	return s->started.oldest;
}

int
osmtalk_scheduler_in_flight(const OsmtalkScheduler *s)
{
	return s->in_flight;
}

int
osmtalk_scheduler_held(const OsmtalkScheduler *s)
{
	return s->held;
}
