/*
 * sending.c
 *		From the scheduler to HTTP, and back.
 */
#include "postgres.h"

#include "claimed.h"
#include "fault.h"
#include "http.h"
#include "ownership.h"
#include "retries.h"
#include "sending.h"
#include "slot.h"

/*
 * Requests are begun so many at a time, and none while as many answers wait:
 * more in flight than keep this process busy only fall out of its caches.
 */
#define BURST 32

int64 osmtalk_delivered = 0;
int64 osmtalk_failed = 0;

bool
osmtalk_send_ready(OsmtalkScheduler *scheduler, int answers, int room)
{
	TimestampTz now = GetCurrentTimestamp();
	OsmtalkTicket *t;

	for (int n = 0; n < room; n++)
	{
		if (answers + n >= BURST)
			return true;
		if ((t = osmtalk_scheduler_start(scheduler, now)) == NULL)
			return false;
		osmtalk_fault_at_event(((OsmtalkDelivery *) t->delivery)->event_id);
		((OsmtalkDelivery *) t->delivery)->proven = osmtalk_scheduler_is_proven(t);
		osmtalk_http_send(t->delivery);
	}
	return false;
}

/* It is to be claimed again.  False if there is no memory to remember it. */
static bool
hand_back(OsmtalkScheduler *scheduler, OsmtalkDelivery *d)
{
	bool suspect = d->ticket->suspect;
	bool remembered = true;
	OsmtalkEndpoint *e;

	if (d->standing == OSMTALK_STANDING_PROBE)
		osmtalk_note_unused_probe(d);
	osmtalk_scheduler_done(scheduler, d->ticket, OSMTALK_NOT_SENT);
	if (osmtalk_owns(d->endpoint_hash) &&
		((e = osmtalk_scheduler_endpoint(scheduler, d->endpoint_hash, d->outbox_id)) == NULL ||
		 !(suspect ? osmtalk_scheduler_found_suspect(scheduler, e, d->outbox_id)
				   : osmtalk_scheduler_found(scheduler, e, d->outbox_id))))
		remembered = false;
	osmtalk_delivery_free(d);
	return remembered;
}

bool
osmtalk_hand_back(OsmtalkScheduler *scheduler, TimestampTz before, uint32 left_alone)
{
	OsmtalkTicket *t;
	OsmtalkTicket *younger;
	OsmtalkDelivery *d;
	bool remembered = true;

	while ((t = osmtalk_scheduler_stale(scheduler, before)) != NULL)
		remembered = hand_back(scheduler, t->delivery) && remembered;
	for (t = left_alone != 0 ? osmtalk_scheduler_oldest_ready(scheduler) : NULL; t != NULL; t = younger)
	{
		younger = t->younger;
		if (left_alone & OSMTALK_WAKE_LEAVE_ALONE(t->endpoint->hash))
			remembered = hand_back(scheduler, t->delivery) && remembered;
	}
	/* they are few: whose endpoint it is does not matter */
	if (left_alone != 0 || before == DT_NOEND)
		osmtalk_http_give_up_starved();
	while ((d = osmtalk_http_outdated()) != NULL)
		remembered = hand_back(scheduler, d) && remembered;
	return remembered;
}

/*
 * The log hears of an endpoint when it begins to fail or to be refused, and
 * when it is well again; each failure is in delivery_attempts.
 */
static void
report_result(const OsmtalkDelivery *d, OsmtalkEndpoint *endpoint)
{
	const char *name = endpoint->name ? endpoint->name : "an endpoint";

	if (d->error[0] == '\0')
	{
		if (endpoint->failures > 0)
			ereport(LOG,
					errmsg("osmtalk: deliveries to %s succeed again, after " INT64_FORMAT " failures", name, endpoint->failures));
		endpoint->failures = 0;
		endpoint->refused = false;
		return;
	}
	if (endpoint->failures++ == 0 || (d->refusal != 0 && !endpoint->refused))
		ereport(LOG,
				errmsg("osmtalk: event %s could not be delivered to %s: %s", d->event_id, name, d->error),
				errdetail("%s%sUntil a delivery there succeeds, further failures are only recorded in osmtalk.delivery_attempts.",
						  d->detail, d->detail[0] != '\0' ? " " : ""));
	endpoint->refused = endpoint->refused || d->refusal != 0;
	osmtalk_slot_note_error(d->error);
}

int
osmtalk_collect_results(OsmtalkScheduler *scheduler, dlist_head *results)
{
	OsmtalkDelivery *d;
	int n = 0;

	for (; (d = osmtalk_http_finished()) != NULL; n++)
	{
		OsmtalkEndpoint *endpoint = d->ticket->endpoint;

		if (d->error[0] == '\0')
			osmtalk_delivered++;
		else
			osmtalk_failed++;
		osmtalk_scheduler_done(scheduler, d->ticket,
							   d->answered															 ? OSMTALK_ANSWERED
								   : d->refusal || d->url == NULL || d->unsignable || d->bad_headers ? OSMTALK_NOT_SENT
																									 : OSMTALK_NO_ANSWER);
		d->ticket = NULL;
		dlist_push_tail(results, &d->node);
		/* last: memory may run out for what the log is to hear, and the result must not be lost with it */
		report_result(d, endpoint);
	}
	return n;
}

int
osmtalk_unanswered(OsmtalkScheduler *scheduler, OsmtalkDelivery ***deliveries)
{
	int n = 0;

	*deliveries = palloc((osmtalk_scheduler_in_flight(scheduler) + 1) * sizeof(**deliveries));
	for (OsmtalkTicket *t = osmtalk_scheduler_oldest(scheduler); t != NULL; t = t->younger)
		if (((OsmtalkDelivery *) t->delivery)->posted)
			(*deliveries)[n++] = t->delivery;
	return n;
}
