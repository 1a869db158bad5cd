/*
 * endpoints.h
 *		The scheduler's endpoints, each placed by what is to be expected of it.
 *
 * For scheduler.c alone.  Knows which endpoint waits for what, and the counts
 * that follow from it; not whose turn it is.
 */
#ifndef OSMTALK_ENDPOINTS_H
#define OSMTALK_ENDPOINTS_H

#include "waiting.h"

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

typedef struct OsmtalkSuspect
{
	int64_t id;
	OsmtalkEndpoint *endpoint;
} OsmtalkSuspect;

struct OsmtalkScheduler
{
	int max_in_flight;
	int max_per_endpoint;
	int in_flight;
	int held;
	int in_flight_of[STANDINGS];
	int newcomers; /* tickets, and of them those in flight */
	int newcomers_in_flight;
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
	int64_t next_probe; /* of a sick one, while others are served */

	OsmtalkEndpoint **buckets;
	size_t nbuckets;
	size_t nendpoints;

	OsmtalkHeap later;

	OsmtalkSuspect *suspects; /* a stack: their order does not matter */
	size_t nsuspects;
	size_t suspects_capacity;

	OsmtalkTickets ready;
	OsmtalkTickets started;
	OsmtalkTicket *last_slow; /* the youngest that is known to be slow */
};

/* Puts the endpoint where it belongs after anything about it has changed. */
extern void osmtalk_endpoint_place(OsmtalkScheduler *s, OsmtalkEndpoint *e);

/* Has it events that are known one by one? */
extern bool osmtalk_endpoint_has_late(const OsmtalkEndpoint *e);

/* Has any of that standing an event to be claimed? */
extern bool osmtalk_endpoints_to_claim(const OsmtalkScheduler *s, int standing);

#endif
