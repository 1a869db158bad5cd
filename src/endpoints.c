/*
 * endpoints.c
 *		The scheduler's endpoints, each placed by what is to be expected of it.
 */
#include <stdlib.h>

#include "endpoints.h"

#define FIRST_WINDOW 2

/* what a proven endpoint may have ready beyond its window: in windows, and in bytes */
#define AHEAD_WINDOWS 7
#define AHEAD_BYTES (1024 * 1024)

/* endpoints that are remembered while they have no events */
#define LEAST_ENDPOINTS_KEPT 1024

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

bool
osmtalk_endpoint_has_late(const OsmtalkEndpoint *e)
{
	return e->first_late < e->nlate;
}

static bool
has_unclaimed(const OsmtalkEndpoint *e)
{
	return osmtalk_endpoint_has_late(e) || e->found > 0 || e->more;
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
	int64_t id = osmtalk_endpoint_has_late(e) ? e->late[e->first_late] : e->cursor;

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

bool
osmtalk_endpoints_to_claim(const OsmtalkScheduler *s, int standing)
{
	return standing == FRESH ? s->fresh.first != NULL : s->to_claim[standing].count > 0;
}

void
osmtalk_endpoint_place(OsmtalkScheduler *s, OsmtalkEndpoint *e)
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
		s->hungry_of[e->standing] -= e->hungry;
		s->in_flight_of[standing] += e->in_flight;
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
	osmtalk_endpoint_place(s, e);
	return e;
}
