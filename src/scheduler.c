/*
 * scheduler.c
 *		Which event is sent next.
 *
 * Turns between endpoints, and a window per endpoint, so that one that is
 * slow, dead or drowning in events takes nothing from the others.  What has
 * not proven itself may hold at most half of the slots: that leaves room for
 * the healthy before the first time-out has passed.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "waiting.h"

#define FIRST_WINDOW 2
#define SLOW_AFTER 1000000 /* microseconds */

/* what a proven endpoint may have ready beyond its window: in windows, and in bytes */
#define AHEAD_WINDOWS 7
#define AHEAD_BYTES (1024 * 1024)

/* what may be held in all, in slots */
#define MOST_HELD 2

/* events that an endpoint has claimed in a turn, since together they are found faster: a part of the slots, at most */
#define TURN_PART 32
#define TURN_MOST 8

/* ids of one endpoint that are known one by one; beyond that it is read again */
#define MOST_LATE 1024

/* endpoints that are remembered while they have no events */
#define LEAST_ENDPOINTS_KEPT 1024

/* what is to be expected of an endpoint */
enum
{
	PROVEN, /* its last result was an answer, and no request waits for one longer than a second */
	FRESH,	/* it has had no result yet */
	SICK,	/* neither */
	STANDINGS
};

/* what an endpoint waits for: its places in rings */
enum
{
	TO_CLAIM, /* a turn to have an event claimed */
	TO_START, /* a turn to have one sent */
	TO_LEAVE  /* to be forgotten: it has nothing */
};

typedef struct Suspect
{
	int64_t id;
	OsmtalkEndpoint *endpoint;
} Suspect;

struct OsmtalkScheduler
{
	int max_in_flight;
	int max_per_endpoint;
	int in_flight;
	int held;
	int in_flight_of[STANDINGS];
	int held_of[STANDINGS];
	int hungry_of[STANDINGS]; /* endpoints */
	bool suspect_in_flight;
	bool suspect_held; /* picked, and not started or done */
	OsmtalkTicket *suspect_ready;
	bool unproven_last;		  /* the last that was started was not proven */
	int claims_of[STANDINGS]; /* the endpoints' claims on slots: what they hold beyond their windows is none */

	OsmtalkLine fresh; /* those of them that are to be claimed for */
	OsmtalkRing to_claim[STANDINGS];
	OsmtalkRing to_start[STANDINGS];
	OsmtalkRing unused;
	const OsmtalkEndpoint *claiming; /* whose turn to claim has begun, and how much of it is left */
	int claims_left;

	OsmtalkEndpoint **buckets;
	size_t nbuckets;
	size_t nendpoints;

	OsmtalkHeap later;

	Suspect *suspects; /* a stack: their order does not matter */
	size_t nsuspects;
	size_t suspects_capacity;

	OsmtalkTickets ready;
	OsmtalkTickets started;
	OsmtalkTicket *last_slow; /* the youngest that is known to be slow */
};

/* ---- endpoints ---- */

static size_t
bucket_of(const OsmtalkScheduler *s, int64_t hash)
{
	return (size_t) ((uint64_t) hash & (s->nbuckets - 1));
}

static void
grow_buckets(OsmtalkScheduler *s)
{
	OsmtalkEndpoint **old = s->buckets;
	size_t nold = s->nbuckets;
	OsmtalkEndpoint **buckets = calloc(nold * 2, sizeof(*buckets));

	if (buckets == NULL)
		return; /* longer chains, no harm */
	s->buckets = buckets;
	s->nbuckets = nold * 2;
	for (size_t i = 0; i < nold; i++)
		for (OsmtalkEndpoint *e = old[i], *next; e != NULL; e = next)
		{
			OsmtalkEndpoint **bucket = &buckets[bucket_of(s, e->hash)];

			next = e->next_in_bucket;
			e->next_in_bucket = *bucket;
			*bucket = e;
		}
	free(old);
}

static int
window_of(const OsmtalkScheduler *s, const OsmtalkEndpoint *e)
{
	return e->window < s->max_per_endpoint ? e->window : s->max_per_endpoint;
}

static bool
has_late(const OsmtalkEndpoint *e)
{
	return e->first_late < e->nlate;
}

static bool
has_unclaimed(const OsmtalkEndpoint *e)
{
	return has_late(e) || e->found > 0 || e->more;
}

/* How many tickets it may hold that have no slot. */
static int
ahead_of(const OsmtalkScheduler *s, const OsmtalkEndpoint *e)
{
	int by_window = AHEAD_WINDOWS * window_of(s, e);
	size_t by_bytes = AHEAD_BYTES / (e->bytes + 1);

	if (e->standing != PROVEN)
		return 0;
	return by_bytes < (size_t) by_window ? (int) by_bytes : by_window;
}

static int
standing_of(const OsmtalkEndpoint *e)
{
	if (e->slow > 0)
		return SICK;
	return e->answered ? PROVEN : e->tried ? SICK
										   : FRESH;
}

/*
 * The fresh are claimed for in the order in which their events came, a first
 * one for each before a second for any: so few endpoints with many events find
 * a slot before many with few.
 */
static int64_t
rank_of(const OsmtalkEndpoint *e)
{
	const int64_t after_all = INT64_C(1) << 62;
	int64_t id = has_late(e) ? e->late[e->first_late] : e->cursor;

	if (e->in_flight + e->held == 0)
		return id;
	return id < INT64_MAX - after_all ? id + after_all : INT64_MAX;
}

static void
set_to_claim(OsmtalkScheduler *s, OsmtalkEndpoint *e, int standing, bool in)
{
	if (standing == FRESH)
		osmtalk_line_set(&s->fresh, e, in, rank_of(e));
	else
		osmtalk_ring_set(&s->to_claim[standing], e, TO_CLAIM, in);
}

static bool
any_to_claim(const OsmtalkScheduler *s, int standing)
{
	return standing == FRESH ? s->fresh.first != NULL : s->to_claim[standing].count > 0;
}

/*
 * Puts the endpoint where it belongs after anything about it has changed.
 */
static void
place(OsmtalkScheduler *s, OsmtalkEndpoint *e)
{
	int standing = standing_of(e);
	int window = window_of(s, e);
	bool room = e->in_flight < window;
	bool hungry;

	if (standing != e->standing)
	{
		set_to_claim(s, e, e->standing, false);
		osmtalk_ring_set(&s->to_start[e->standing], e, TO_START, false);
		s->in_flight_of[e->standing] -= e->in_flight;
		s->held_of[e->standing] -= e->held;
		s->hungry_of[e->standing] -= e->hungry;
		s->in_flight_of[standing] += e->in_flight;
		s->held_of[standing] += e->held;
		s->hungry_of[standing] += e->hungry;
		s->claims_of[e->standing] -= e->claims;
		s->claims_of[standing] += e->claims;
		e->standing = standing;
	}
	s->claims_of[standing] -= e->claims;
	e->claims = e->in_flight + e->held;
	if (e->claims > window)
		e->claims = e->in_flight > window ? e->in_flight : window;
	s->claims_of[standing] += e->claims;
	hungry = has_unclaimed(e) && e->in_flight + e->held < window;
	s->hungry_of[standing] += hungry - e->hungry;
	e->hungry = hungry;
	set_to_claim(s, e, standing,
				 has_unclaimed(e) && e->in_flight + e->held < window + ahead_of(s, e));
	osmtalk_ring_set(&s->to_start[standing], e, TO_START, room && e->ready_first != NULL);
	osmtalk_ring_set(&s->unused, e, TO_LEAVE, !has_unclaimed(e) && e->in_flight + e->held + e->refs == 0);
}

/* Forgets the endpoint that has been without events for longest. */
static void
forget_one(OsmtalkScheduler *s)
{
	OsmtalkEndpoint *e = s->unused.cursor;
	OsmtalkEndpoint **link = &s->buckets[bucket_of(s, e->hash)];

	osmtalk_ring_set(&s->unused, e, TO_LEAVE, false);
	while (*link != e)
		link = &(*link)->next_in_bucket;
	*link = e->next_in_bucket;
	s->nendpoints--;
	free(e->late);
	free(e->name);
	free(e);
}

OsmtalkEndpoint *
osmtalk_scheduler_endpoint(OsmtalkScheduler *s, int64_t hash, int64_t cursor)
{
	OsmtalkEndpoint *e;
	size_t kept = (size_t) s->max_in_flight * 4;

	for (e = s->buckets[bucket_of(s, hash)]; e != NULL; e = e->next_in_bucket)
		if (e->hash == hash)
			return e;

	e = calloc(1, sizeof(*e));
	if (e == NULL)
		return NULL;
	if (kept < LEAST_ENDPOINTS_KEPT)
		kept = LEAST_ENDPOINTS_KEPT;
	if (s->nendpoints >= kept && s->unused.count > 0)
		forget_one(s);
	if (s->nendpoints >= s->nbuckets)
		grow_buckets(s);
	e->hash = hash;
	e->cursor = cursor;
	e->window = FIRST_WINDOW;
	e->standing = FRESH;
	e->next_in_bucket = s->buckets[bucket_of(s, hash)];
	s->buckets[bucket_of(s, hash)] = e;
	s->nendpoints++;
	place(s, e);
	return e;
}

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
			place(s, e);
}

/* ---- what there is ---- */

static bool
push_late(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id)
{
	if (!has_late(e))
		e->first_late = e->nlate = 0;
	if (e->nlate >= MOST_LATE)
	{
		osmtalk_scheduler_found_more(s, e, id - 1);
		return true;
	}
	if (!osmtalk_reserve((void **) &e->late, &e->late_capacity, e->nlate, sizeof(int64_t)))
		return false;
	e->late[e->nlate++] = id;
	place(s, e);
	return true;
}

bool
osmtalk_scheduler_found(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id)
{
	if (id <= e->cursor)
		return push_late(s, e, id);
	e->found++;
	place(s, e);
	return true;
}

void
osmtalk_scheduler_found_more(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t cursor)
{
	if (cursor < e->cursor)
		e->cursor = cursor;
	e->more = true;
	place(s, e);
}

bool
osmtalk_scheduler_found_later(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id, int64_t due_at)
{
	if (!osmtalk_heap_push(&s->later, (OsmtalkLater){due_at, id, e}))
		return false;
	e->refs++;
	place(s, e);
	return true;
}

bool
osmtalk_scheduler_found_suspect(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id)
{
	if (!osmtalk_reserve((void **) &s->suspects, &s->suspects_capacity, s->nsuspects, sizeof(Suspect)))
		return false;
	s->suspects[s->nsuspects++] = (Suspect){id, e};
	e->refs++;
	place(s, e);
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
	place(s, e);
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
			place(s, e);
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
		place(s, event.endpoint);
	}

	for (;;)
	{
		OsmtalkTicket *t = s->last_slow ? s->last_slow->younger : s->started.oldest;

		if (t == NULL || t->since > now - SLOW_AFTER)
			break;
		t->slow = true;
		s->last_slow = t;
		t->endpoint->slow++;
		place(s, t->endpoint);
	}
}

static int
share(const OsmtalkScheduler *s, int part)
{
	return s->max_in_flight >= part ? s->max_in_flight / part : 1;
}

/*
 * The standing whose turn it is, or -1, given what each standing has, and
 * counts.  Those that have not proven themselves come first, so that they get
 * to, but hold at most half of the slots, and the fresh and the sick a quarter
 * each: the sick, however many, do not keep a fresh one waiting once they are
 * known.
 */
static int
next_standing(const OsmtalkScheduler *s, const bool wants[STANDINGS], const int has[STANDINGS])
{
	if (has[FRESH] + has[SICK] < share(s, 2))
	{
		if (wants[FRESH] && has[FRESH] < share(s, 4))
			return FRESH;
		if (wants[SICK] && has[SICK] < share(s, 4))
			return SICK;
	}
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
next_to_claim(const OsmtalkScheduler *s, bool hungry)
{
	bool wants[STANDINGS];
	int has[STANDINGS];

	for (int i = 0; i < STANDINGS; i++)
	{
		wants[i] = hungry ? s->hungry_of[i] > 0 : any_to_claim(s, i);
		has[i] = s->claims_of[i];
	}
	if (ahead_is_full(s))
		wants[PROVEN] = s->hungry_of[PROVEN] > 0 && has[PROVEN] + has[FRESH] + has[SICK] < s->max_in_flight;
	return next_standing(s, wants, has);
}

static bool
suspects_turn(const OsmtalkScheduler *s)
{
	return s->nsuspects > 0 && s->in_flight + s->held == 0;
}

OsmtalkAppetite
osmtalk_scheduler_appetite(OsmtalkScheduler *s, int64_t now)
{
	advance(s, now);
	if (s->nsuspects > 0 || s->suspect_held || s->suspect_in_flight)
		return suspects_turn(s) ? OSMTALK_HUNGRY : OSMTALK_FULL;
	if (next_to_claim(s, false) < 0)
		return OSMTALK_FULL;
	if (s->in_flight < s->max_in_flight && next_to_claim(s, true) >= 0)
		return OSMTALK_HUNGRY;
	/* soon: while these are sent, the next can be claimed */
	return s->held <= s->in_flight / 2 ? OSMTALK_HUNGRY : OSMTALK_CONTENT;
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
	if (!suspects_turn(s) && (s->nsuspects > 0 || s->suspect_held || s->suspect_in_flight || (standing = next_to_claim(s, false)) < 0))
		return NULL;
	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return NULL;

	if (suspects_turn(s))
	{
		Suspect first = s->suspects[--s->nsuspects];

		e = first.endpoint;
		e->refs--;
		t->id = first.id;
		t->suspect = true;
		s->suspect_held = true;
	}
	else
	{
		e = next_in_turn(s, standing);
		if (has_late(e))
			t->id = e->late[e->first_late++];
		else if (e->found > 0)
			e->found--;
	}
	t->endpoint = e;
	t->since = now;
	t->stage = OSMTALK_TICKET_PICKED;
	s->held++;
	s->held_of[e->standing]++;
	e->held++;
	place(s, e);
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
	place(s, e);
}

void
osmtalk_scheduler_move(OsmtalkScheduler *s, OsmtalkTicket *t, OsmtalkEndpoint *e)
{
	OsmtalkEndpoint *was = t->endpoint;

	if (e == was)
		return;
	s->held_of[was->standing]--;
	was->held--;
	t->endpoint = e;
	s->held_of[e->standing]++;
	e->held++;
	place(s, was);
	place(s, e);
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
		standing = next_standing(s, wants, s->in_flight_of);
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
	s->held_of[e->standing]--;
	e->held--;
	s->in_flight++;
	s->in_flight_of[e->standing]++;
	e->in_flight++;
	place(s, e);
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

	if (t->stage != OSMTALK_TICKET_STARTED)
	{
		if (t->stage == OSMTALK_TICKET_READY)
			unready(s, t);
		if (t->suspect)
			s->suspect_held = false;
		s->held--;
		s->held_of[e->standing]--;
		e->held--;
		return;
	}
	if (s->last_slow == t)
		s->last_slow = t->older;
	osmtalk_tickets_remove(&s->started, t);
	s->in_flight--;
	s->in_flight_of[e->standing]--;
	e->in_flight--;
	if (t->slow)
		e->slow--;
	if (t->suspect)
		s->suspect_in_flight = false;
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
	place(s, e);
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
