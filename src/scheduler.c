/*
 * scheduler.c
 *		Which event is sent next.
 *
 * A queue per endpoint, turns between endpoints, and a window per endpoint,
 * so that one that is slow, dead or drowning in events takes nothing from the
 * others.  What has not proven itself may hold at most half of the slots:
 * that leaves room for the healthy before the first time-out has passed.
 */
#include <stdlib.h>
#include <string.h>

#include "scheduler.h"

#define FIRST_WINDOW 2
#define SLOW_AFTER 1000000 /* microseconds */

/* a first-in first-out ring of ids that grows */
typedef struct Queue
{
	int64_t *ids;
	size_t capacity; /* a power of two, or 0 */
	size_t head;
	size_t count;
} Queue;

/* what is to be expected of an endpoint */
typedef enum Standing
{
	PROVEN, /* its last result was an answer, and no request waits for one longer than a second */
	FRESH,	/* it has had no result yet */
	SICK	/* neither */
} Standing;

#define STANDINGS 3

struct OsmtalkEndpoint
{
	char *name;
	uint32_t hash;
	OsmtalkEndpoint *next_in_bucket;
	Queue queue;
	int window;
	int in_flight;
	int slow;		   /* of them, for more than a second */
	bool answered;	   /* the last result was an answer */
	bool tried;		   /* there was a result */
	Standing standing; /* its requests are counted there */
	/* its place in the ring of those that wait for a turn, NULL when not in it */
	OsmtalkEndpoint *next;
	OsmtalkEndpoint *prev;
};

/* an event that is not due yet */
typedef struct Later
{
	int64_t due_at;
	int64_t id;
	OsmtalkEndpoint *endpoint;
	bool suspect;
} Later;

typedef struct Suspect
{
	int64_t id;
	OsmtalkEndpoint *endpoint;
} Suspect;

/* endpoints that wait for a turn; cursor is whose turn it is */
typedef struct Ring
{
	OsmtalkEndpoint *cursor;
	size_t count;
} Ring;

struct OsmtalkScheduler
{
	int max_in_flight;
	int max_per_endpoint;
	int in_flight;
	int in_flight_of[STANDINGS];
	bool suspect_in_flight;
	int64_t queued; /* in queues, later and suspects */

	Ring rings[STANDINGS];

	OsmtalkEndpoint **buckets;
	size_t nbuckets;
	size_t nendpoints;

	Later *later; /* a heap, the earliest first */
	size_t nlater;
	size_t later_capacity;

	Suspect *suspects; /* a stack: their order does not matter */
	size_t nsuspects;
	size_t suspects_capacity;

	/* in flight by age, and the youngest that is known to be slow */
	OsmtalkTicket *oldest;
	OsmtalkTicket *youngest;
	OsmtalkTicket *last_slow;
};

/* ---- containers ---- */

static bool
queue_push(Queue *q, int64_t id)
{
	if (q->count == q->capacity)
	{
		size_t capacity = q->capacity ? q->capacity * 2 : 8;
		int64_t *ids = malloc(capacity * sizeof(int64_t));

		if (ids == NULL)
			return false;
		for (size_t i = 0; i < q->count; i++)
			ids[i] = q->ids[(q->head + i) & (q->capacity - 1)];
		free(q->ids);
		q->ids = ids;
		q->capacity = capacity;
		q->head = 0;
	}
	q->ids[(q->head + q->count++) & (q->capacity - 1)] = id;
	return true;
}

static int64_t
queue_pop(Queue *q)
{
	int64_t id = q->ids[q->head];

	q->head = (q->head + 1) & (q->capacity - 1);
	if (--q->count == 0)
	{
		/* an endpoint that once had a million events does not keep their room */
		free(q->ids);
		memset(q, 0, sizeof(*q));
	}
	return id;
}

/* Makes room for one more element. */
static bool
reserve(void **array, size_t *capacity, size_t count, size_t size)
{
	size_t more;
	void *bigger;

	if (count < *capacity)
		return true;
	more = *capacity ? *capacity * 2 : 64;
	bigger = realloc(*array, more * size);
	if (bigger == NULL)
		return false;
	*array = bigger;
	*capacity = more;
	return true;
}

static bool
later_push(OsmtalkScheduler *s, Later event)
{
	size_t i = s->nlater;

	if (!reserve((void **) &s->later, &s->later_capacity, s->nlater, sizeof(Later)))
		return false;
	s->nlater++;
	for (; i > 0 && s->later[(i - 1) / 2].due_at > event.due_at; i = (i - 1) / 2)
		s->later[i] = s->later[(i - 1) / 2];
	s->later[i] = event;
	return true;
}

static Later
later_pop(OsmtalkScheduler *s)
{
	Later first = s->later[0];
	Later last = s->later[--s->nlater];
	size_t i = 0;

	for (;;)
	{
		size_t child = 2 * i + 1;

		if (child >= s->nlater)
			break;
		if (child + 1 < s->nlater && s->later[child + 1].due_at < s->later[child].due_at)
			child++;
		if (s->later[child].due_at >= last.due_at)
			break;
		s->later[i] = s->later[child];
		i = child;
	}
	s->later[i] = last;
	return first;
}

/* ---- endpoints ---- */

static uint32_t
hash_name(const char *name)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (; *name; name++)
		hash = (hash ^ (unsigned char) *name) * 16777619u;
	return hash;
}

static void
grow_buckets(OsmtalkScheduler *s)
{
	size_t more = s->nbuckets * 2;
	OsmtalkEndpoint **buckets = calloc(more, sizeof(*buckets));

	if (buckets == NULL)
		return; /* longer chains, no harm */
	for (size_t i = 0; i < s->nbuckets; i++)
		for (OsmtalkEndpoint *e = s->buckets[i], *next; e != NULL; e = next)
		{
			next = e->next_in_bucket;
			e->next_in_bucket = buckets[e->hash & (more - 1)];
			buckets[e->hash & (more - 1)] = e;
		}
	free(s->buckets);
	s->buckets = buckets;
	s->nbuckets = more;
}

OsmtalkEndpoint *
osmtalk_scheduler_endpoint(OsmtalkScheduler *s, const char *name)
{
	uint32_t hash = hash_name(name);
	OsmtalkEndpoint *e;

	for (e = s->buckets[hash & (s->nbuckets - 1)]; e != NULL; e = e->next_in_bucket)
		if (e->hash == hash && strcmp(e->name, name) == 0)
			return e;

	e = calloc(1, sizeof(*e));
	if (e == NULL || (e->name = strdup(name)) == NULL)
	{
		free(e);
		return NULL;
	}
	if (s->nendpoints >= s->nbuckets)
		grow_buckets(s);
	e->hash = hash;
	e->window = FIRST_WINDOW;
	e->standing = FRESH;
	e->next_in_bucket = s->buckets[hash & (s->nbuckets - 1)];
	s->buckets[hash & (s->nbuckets - 1)] = e;
	s->nendpoints++;
	return e;
}

const char *
osmtalk_scheduler_endpoint_name(const OsmtalkEndpoint *endpoint)
{
	return endpoint->name;
}

static int
window_of(const OsmtalkScheduler *s, const OsmtalkEndpoint *e)
{
	return e->window < s->max_per_endpoint ? e->window : s->max_per_endpoint;
}

static void
ring_insert(Ring *ring, OsmtalkEndpoint *e)
{
	if (ring->cursor == NULL)
		ring->cursor = e->next = e->prev = e;
	else
	{
		/* last in turn: before the cursor */
		e->next = ring->cursor;
		e->prev = ring->cursor->prev;
		e->prev->next = e;
		e->next->prev = e;
	}
	ring->count++;
}

static void
ring_remove(Ring *ring, OsmtalkEndpoint *e)
{
	if (ring->cursor == e)
		ring->cursor = e->next == e ? NULL : e->next;
	e->prev->next = e->next;
	e->next->prev = e->prev;
	e->next = e->prev = NULL;
	ring->count--;
}

static Standing
standing_of(const OsmtalkEndpoint *e)
{
	if (e->slow > 0)
		return SICK;
	return e->answered ? PROVEN : e->tried ? SICK
										   : FRESH;
}

/*
 * Puts the endpoint where it belongs after anything about it has changed: in
 * the ring of its standing, if it has events and room in its window.
 */
static void
place(OsmtalkScheduler *s, OsmtalkEndpoint *e)
{
	Standing standing = standing_of(e);
	bool waits = e->queue.count > 0 && e->in_flight < window_of(s, e);

	if (e->next != NULL && (!waits || standing != e->standing))
		ring_remove(&s->rings[e->standing], e);
	if (standing != e->standing)
	{
		s->in_flight_of[e->standing] -= e->in_flight;
		s->in_flight_of[standing] += e->in_flight;
		e->standing = standing;
	}
	if (waits && e->next == NULL)
		ring_insert(&s->rings[standing], e);
}

/* Counts the ticket as its endpoint's, or no more: by 1 or -1. */
static void
count_ticket(OsmtalkScheduler *s, OsmtalkTicket *t, int by)
{
	OsmtalkEndpoint *e = t->endpoint;

	s->in_flight_of[e->standing] += by;
	e->in_flight += by;
	if (t->slow)
		e->slow += by;
}

/* ---- the interface ---- */

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

static bool
add_due(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id, bool suspect)
{
	if (suspect)
	{
		if (!reserve((void **) &s->suspects, &s->suspects_capacity, s->nsuspects, sizeof(Suspect)))
			return false;
		s->suspects[s->nsuspects++] = (Suspect){id, e};
		return true;
	}
	if (!queue_push(&e->queue, id))
		return false;
	place(s, e);
	return true;
}

bool
osmtalk_scheduler_add(OsmtalkScheduler *s, OsmtalkEndpoint *endpoint, int64_t id,
					  int64_t due_at, int64_t now, bool suspect)
{
	if (due_at > now ? !later_push(s, (Later){due_at, id, endpoint, suspect})
					 : !add_due(s, endpoint, id, suspect))
		return false;
	s->queued++;
	return true;
}

/* Brings what depends on the time up to it. */
static void
advance(OsmtalkScheduler *s, int64_t now)
{
	while (s->nlater > 0 && s->later[0].due_at <= now)
	{
		Later event = later_pop(s);

		if (!add_due(s, event.endpoint, event.id, event.suspect))
		{
			/* no memory: it stays where it was, there is room for it there */
			(void) later_push(s, event);
			break;
		}
	}

	for (;;)
	{
		OsmtalkTicket *t = s->last_slow ? s->last_slow->younger : s->oldest;

		if (t == NULL || t->picked_at > now - SLOW_AFTER)
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
 * The endpoint whose turn it is, or NULL if none may send.  Those that have
 * not proven themselves come first, so that they get to, but hold at most half
 * of the slots, and the fresh and the sick a quarter each: the sick, however
 * many, do not keep a fresh one waiting once they are known.
 */
static OsmtalkEndpoint *
next_endpoint(OsmtalkScheduler *s)
{
	/* a suspect waits for the others to be done: they must not keep it waiting */
	if (s->in_flight >= s->max_in_flight || s->suspect_in_flight || s->nsuspects > 0)
		return NULL;
	if (s->in_flight_of[FRESH] + s->in_flight_of[SICK] < share(s, 2))
	{
		if (s->rings[FRESH].count > 0 && s->in_flight_of[FRESH] < share(s, 4))
			return s->rings[FRESH].cursor;
		if (s->rings[SICK].count > 0 && s->in_flight_of[SICK] < share(s, 4))
			return s->rings[SICK].cursor;
	}
	return s->rings[PROVEN].cursor;
}

bool
osmtalk_scheduler_can_pick(OsmtalkScheduler *s, int64_t now)
{
	advance(s, now);
	return (s->nsuspects > 0 && s->in_flight == 0) || next_endpoint(s) != NULL;
}

OsmtalkTicket *
osmtalk_scheduler_pick(OsmtalkScheduler *s, int64_t now)
{
	OsmtalkTicket *t;
	OsmtalkEndpoint *e = NULL;
	bool suspect;

	advance(s, now);
	suspect = s->nsuspects > 0 && s->in_flight == 0;
	if (!suspect && (e = next_endpoint(s)) == NULL)
		return NULL;
	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return NULL;

	if (suspect)
	{
		Suspect first = s->suspects[--s->nsuspects];

		e = first.endpoint;
		t->id = first.id;
		s->suspect_in_flight = true;
	}
	else
	{
		t->id = queue_pop(&e->queue);
		s->rings[e->standing].cursor = e->next; /* the turn passes on */
	}
	t->endpoint = e;
	t->suspect = suspect;
	t->picked_at = now;

	t->older = s->youngest;
	if (s->youngest != NULL)
		s->youngest->younger = t;
	else
		s->oldest = t;
	s->youngest = t;

	s->queued--;
	s->in_flight++;
	count_ticket(s, t, 1);
	place(s, e);
	return t;
}

void
osmtalk_scheduler_move(OsmtalkScheduler *s, OsmtalkTicket *t, OsmtalkEndpoint *endpoint)
{
	OsmtalkEndpoint *was = t->endpoint;

	if (endpoint == was)
		return;
	count_ticket(s, t, -1);
	t->endpoint = endpoint;
	count_ticket(s, t, 1);
	place(s, was);
	place(s, endpoint);
}

void
osmtalk_scheduler_done(OsmtalkScheduler *s, OsmtalkTicket *t, OsmtalkVerdict verdict)
{
	OsmtalkEndpoint *e = t->endpoint;

	if (t->older != NULL)
		t->older->younger = t->younger;
	else
		s->oldest = t->younger;
	if (t->younger != NULL)
		t->younger->older = t->older;
	else
		s->youngest = t->older;
	if (s->last_slow == t)
		s->last_slow = t->older;

	count_ticket(s, t, -1);
	s->in_flight--;
	if (t->suspect)
		s->suspect_in_flight = false;

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

bool
osmtalk_scheduler_next_due(OsmtalkScheduler *s, int64_t *at)
{
	if (s->nlater == 0)
		return false;
	*at = s->later[0].due_at;
	return true;
}

void
osmtalk_scheduler_clear(OsmtalkScheduler *s)
{
	for (size_t i = 0; i < s->nbuckets; i++)
		for (OsmtalkEndpoint *e = s->buckets[i]; e != NULL; e = e->next_in_bucket)
		{
			free(e->queue.ids);
			memset(&e->queue, 0, sizeof(e->queue));
			place(s, e);
		}
	s->nlater = 0;
	s->nsuspects = 0;
	s->queued = 0;
}

int
osmtalk_scheduler_in_flight(const OsmtalkScheduler *s)
{
	return s->in_flight;
}

int64_t
osmtalk_scheduler_queued(const OsmtalkScheduler *s)
{
	return s->queued;
}
