/*
 * scheduler.h
 *		Which event is sent next.
 *
 * Plain C: knows neither SQL nor HTTP nor the clock.  Times are microseconds
 * of any one clock, given by the caller.  Memory comes from malloc; functions
 * that allocate return false (or NULL) when there is none, and have changed
 * nothing then.
 *
 * Glossary
 *	endpoint	where events go, by the origin of the URL
 *	window		how many requests an endpoint may have in flight: it starts at
 *				2, grows by one with each success up to the cap, and falls to
 *				one when the endpoint is sick
 *	proven		an endpoint whose last result was an answer, with no request
 *				in flight older than a second; all others take at most half of
 *				the slots together: the fresh, which have had no result yet, a
 *				quarter, and the sick a quarter
 *	suspect		an event that was in flight when the worker died, twice in
 *				succession: it is sent with nothing else in flight
 */
#ifndef OSMTALK_SCHEDULER_H
#define OSMTALK_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct OsmtalkScheduler OsmtalkScheduler;
typedef struct OsmtalkEndpoint OsmtalkEndpoint;

/* An event on its way: picked, and not yet done. */
typedef struct OsmtalkTicket
{
	int64_t id;
	OsmtalkEndpoint *endpoint;
	bool suspect;
	bool claimed; /* the caller's to use; false at first */
	bool slow;	  /* counted as in flight for more than a second */
	int64_t picked_at;
	struct OsmtalkTicket *older;
	struct OsmtalkTicket *younger;
} OsmtalkTicket;

typedef enum OsmtalkVerdict
{
	OSMTALK_ANSWERED,  /* an answer came, whatever its status */
	OSMTALK_NO_ANSWER, /* time-out, refused or broken connection */
	OSMTALK_NOT_SENT   /* says nothing about the endpoint */
} OsmtalkVerdict;

extern OsmtalkScheduler *osmtalk_scheduler_create(void);

/* Both at least 1; requests in flight beyond a lowered limit run on. */
extern void osmtalk_scheduler_set_limits(OsmtalkScheduler *s, int max_in_flight, int max_per_endpoint);

/* The endpoint of that name, made if it is new. */
extern OsmtalkEndpoint *osmtalk_scheduler_endpoint(OsmtalkScheduler *s, const char *name);

extern const char *osmtalk_scheduler_endpoint_name(const OsmtalkEndpoint *endpoint);

/* Queues an event that is due at that time. */
extern bool osmtalk_scheduler_add(OsmtalkScheduler *s, OsmtalkEndpoint *endpoint, int64_t id,
								  int64_t due_at, int64_t now, bool suspect);

/*
 * Hands out the next event to send, or NULL if none may be sent now.  Fair:
 * endpoints take turns, an endpoint's events leave in the order they came.
 */
extern OsmtalkTicket *osmtalk_scheduler_pick(OsmtalkScheduler *s, int64_t now);

/* The event goes to another endpoint than it was queued for. */
extern void osmtalk_scheduler_move(OsmtalkScheduler *s, OsmtalkTicket *ticket, OsmtalkEndpoint *endpoint);

/* Ends what pick began; frees the ticket. */
extern void osmtalk_scheduler_done(OsmtalkScheduler *s, OsmtalkTicket *ticket, OsmtalkVerdict verdict);

/* Whether pick would hand something out, once events whose time has come are due. */
extern bool osmtalk_scheduler_can_pick(OsmtalkScheduler *s, int64_t now);

/* When the first event that is not yet due will be; false if there is none. */
extern bool osmtalk_scheduler_next_due(OsmtalkScheduler *s, int64_t *at);

/* Forgets what is queued; endpoints and what is in flight stay. */
extern void osmtalk_scheduler_clear(OsmtalkScheduler *s);

extern int osmtalk_scheduler_in_flight(const OsmtalkScheduler *s);
extern int64_t osmtalk_scheduler_queued(const OsmtalkScheduler *s);

#endif
