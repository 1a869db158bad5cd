/*
 * scheduler.h
 *		Which event is sent next.
 *
 * Plain C: knows neither SQL nor HTTP nor the clock.  Times are microseconds
 * of any one clock, given by the caller.  Memory comes from malloc; functions
 * that allocate return false (or NULL) when there is none, and have changed
 * nothing then.
 *
 * Events stay in their table until they are sent.  What is known of an
 * endpoint's is how far they have been claimed, and whether there are more:
 * so memory goes with the endpoints and the requests, not with the backlog.
 *
 * The way of an event: it is found; a ticket is picked for it, so that it is
 * claimed; claimed, it is ready; it is started when a slot is free; then it
 * is done.  An endpoint that answers may have some ready ahead of its slots,
 * so that many are claimed at a time.
 *
 * Glossary
 *	endpoint	where events go, by the hash of the URL's scheme, host and port
 *	slot		one request in flight; there are max_in_flight
 *	window		how many slots an endpoint may have: it starts at 2, grows by
 *				one with each success up to the cap, and falls to one when the
 *				endpoint is sick
 *	proven		an endpoint whose last result was an answer, with no request
 *				in flight older than a second; all others take at most three
 *				eighths of the slots together: the fresh, which have had no
 *				result yet, two (one while others are served), and the sick one
 *	suspect		an event that was in flight when the worker died, twice in
 *				succession: it is sent with nothing else in flight
 */
#ifndef OSMTALK_SCHEDULER_H
#define OSMTALK_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct OsmtalkScheduler OsmtalkScheduler;
typedef struct OsmtalkTicket OsmtalkTicket;

/* of tickets, by their age */
typedef struct OsmtalkTickets
{
	OsmtalkTicket *oldest;
	OsmtalkTicket *youngest;
} OsmtalkTickets;

/* a place in a ring of endpoints, NULL when not in it; see waiting.h */
typedef struct OsmtalkPlace
{
	struct OsmtalkEndpoint *next;
	struct OsmtalkEndpoint *prev;
} OsmtalkPlace;

/* and in the line */
typedef struct OsmtalkInLine
{
	bool is_in;
	int64_t rank;
	struct OsmtalkEndpoint *before;
	struct OsmtalkEndpoint *beside;
	struct OsmtalkEndpoint *below;
} OsmtalkInLine;

typedef struct OsmtalkEndpoint
{
	int64_t hash;
	int64_t cursor; /* its events up to this id are claimed, or known one by one */

	/* the caller's to use; 0 in a new one */
	int mark;
	int64_t failures;
	bool refused; /* one of them was a refusal of osmtalk's own */
	char *name;	  /* from malloc, NULL while it is not known */

	/* the scheduler's own */
	struct OsmtalkEndpoint *next_in_bucket;
	int64_t found; /* events beyond the cursor that are known to be there */
	bool more;	   /* there may be others */
	int64_t *late; /* ids up to the cursor that are to be claimed, from the first to the last */
	size_t first_late;
	size_t nlate;
	size_t late_capacity;
	int refs; /* by events that are known one by one */
	int window;
	int held; /* tickets that are picked or ready, and not started */
	int in_flight;
	int slow;	   /* of them, for more than a second */
	bool answered; /* the last result was an answer */
	bool tried;	   /* there was a result */
	size_t bytes;  /* of its last body */
	int standing;  /* its tickets are counted there */
	bool hungry;   /* counted as such */
	int claims;	   /* slots that it has, or could have for what it holds */
	OsmtalkTicket *ready_first;
	OsmtalkTicket *ready_last;
	OsmtalkPlace places[3];
	OsmtalkInLine in_line;
} OsmtalkEndpoint;

struct OsmtalkTicket
{
	int64_t id; /* of the event; 0: the next beyond the endpoint's cursor */
	OsmtalkEndpoint *endpoint;
	void *delivery; /* the caller's to use; NULL at first */
	bool suspect;

	/* the scheduler's own */
	enum
	{
		OSMTALK_TICKET_PICKED,
		OSMTALK_TICKET_READY,
		OSMTALK_TICKET_STARTED
	} stage;
	bool newcomer; /* its endpoint was fresh when it was picked */
	bool slow;	   /* counted as in flight for more than a second */
	int64_t since; /* in this stage */
	OsmtalkTicket *older;
	OsmtalkTicket *younger;
	OsmtalkTicket *next_ready;
};

typedef enum OsmtalkVerdict
{
	OSMTALK_ANSWERED,  /* an answer came, whatever its status */
	OSMTALK_NO_ANSWER, /* time-out, refused or broken connection */
	OSMTALK_NOT_SENT   /* says nothing about the endpoint */
} OsmtalkVerdict;

typedef enum OsmtalkRest
{
	OSMTALK_REST_NONE,
	OSMTALK_REST_UNKNOWN,
	OSMTALK_REST_AS_FOUND
} OsmtalkRest;

typedef enum OsmtalkAppetite
{
	OSMTALK_FULL,	 /* nothing is to be claimed */
	OSMTALK_CONTENT, /* more could be made ready, but nothing waits for it */
	OSMTALK_PATIENT, /* only endpoints that are not proven wait, while others are served: they may wait a little */
	OSMTALK_HUNGRY	 /* a slot could be used by an event that is yet to be claimed, or soon will */
} OsmtalkAppetite;

extern OsmtalkScheduler *osmtalk_scheduler_create(void);

/* Both at least 1; requests in flight beyond a lowered limit run on. */
extern void osmtalk_scheduler_set_limits(OsmtalkScheduler *s, int max_in_flight, int max_per_endpoint);

/* The endpoint of that hash, made if it is new: then its cursor stands at that id. */
extern OsmtalkEndpoint *osmtalk_scheduler_endpoint(OsmtalkScheduler *s, int64_t hash, int64_t cursor);

/* ---- what there is ---- */

/* An event of the endpoint has come. */
extern bool osmtalk_scheduler_found(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id);

/* There may be others beyond the cursor, which is set back to that id if it is beyond it. */
extern void osmtalk_scheduler_found_more(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t cursor);

/* An event that was met on the way, and is to be claimed at that time; or alone. */
extern bool osmtalk_scheduler_found_later(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id, int64_t due_at);
extern bool osmtalk_scheduler_found_suspect(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id);

/* The events up to that id have been looked at, and none is beyond, or some may be, or only those found. */
extern void osmtalk_scheduler_passed(OsmtalkScheduler *s, OsmtalkEndpoint *e, int64_t id, OsmtalkRest rest);

/* Forgets what is not claimed yet. */
extern void osmtalk_scheduler_clear(OsmtalkScheduler *s);

/* ---- tickets ---- */

/* Whether there is reason to pick. */
extern OsmtalkAppetite osmtalk_scheduler_appetite(OsmtalkScheduler *s, int64_t now);

/*
 * Hands out a ticket for the next event to be claimed, or NULL.  Fair:
 * endpoints take turns, an endpoint's events leave in the order of their ids.
 */
extern OsmtalkTicket *osmtalk_scheduler_pick(OsmtalkScheduler *s, int64_t now);

/* The ticket's event is claimed; it has that id, and a body of that many bytes. */
extern void osmtalk_scheduler_ready(OsmtalkScheduler *s, OsmtalkTicket *t, int64_t id, size_t bytes, int64_t now);

/* The event goes to another endpoint than it was queued for. */
extern void osmtalk_scheduler_move(OsmtalkScheduler *s, OsmtalkTicket *t, OsmtalkEndpoint *e);

/* The next that is ready and may be sent now, or NULL. */
extern OsmtalkTicket *osmtalk_scheduler_start(OsmtalkScheduler *s, int64_t now);

/* Whether its endpoint answered last time. */
extern bool osmtalk_scheduler_is_proven(const OsmtalkTicket *t);

/* One that has been ready since before that time, or NULL.  It is to be done. */
extern OsmtalkTicket *osmtalk_scheduler_stale(OsmtalkScheduler *s, int64_t before);

/* Ends what pick began, at whichever stage; frees the ticket. */
extern void osmtalk_scheduler_done(OsmtalkScheduler *s, OsmtalkTicket *t, OsmtalkVerdict verdict);

/* ---- figures ---- */

/* When the first event that is to be claimed later will be; false if there is none. */
extern bool osmtalk_scheduler_next_due(const OsmtalkScheduler *s, int64_t *at);

/* Since when the oldest that is ready has been; false if none is. */
extern bool osmtalk_scheduler_ready_since(const OsmtalkScheduler *s, int64_t *since);

/* The oldest that is ready; the others by "younger". */
extern OsmtalkTicket *osmtalk_scheduler_oldest_ready(const OsmtalkScheduler *s);

/* The oldest that is in flight; the others by "younger". */
extern OsmtalkTicket *osmtalk_scheduler_oldest(const OsmtalkScheduler *s);

extern int osmtalk_scheduler_in_flight(const OsmtalkScheduler *s);
extern int osmtalk_scheduler_held(const OsmtalkScheduler *s);

#endif
