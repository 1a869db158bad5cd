/*
 * claim.c
 *		Takes events out of the outbox to be sent.
 *
 * What the scheduler picks is read, each endpoint's from where the last claim
 * ended, and noted in one row of claims per batch: so a claim is durable
 * before a byte is sent, and outbox rows are written once and deleted once.
 * A dead row is never passed again, whatever keeps it alive.
 *
 * Rows are not locked: each endpoint's belong to one process (ownership.c).
 * One that another session has locked, to remove it, say, is left for later.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "claim.h"
#include "claimed.h"
#include "endpoint.h"
#include "ownership.h"
#include "recipient.h"
#include "retries.h"
#include "ring.h"
#include "settings.h"
#include "settle.h"
#include "statements.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* a row that another session has locked is tried again after this long */
#define LOCKED_PAUSE_US 1000000

/*
 * Up to n rows of each endpoint, beyond one id and up to another.  Events are
 * looked for in one partition, the one in which the last were: an executor
 * that has to be ready for all of them takes longer to start than a small
 * batch to read.  Each is found by its key, whatever the planner thinks of the
 * table when it is asked.
 */
/* clang-format off */
#define READ_ROWS \
	"SELECT w.number, o.id, o.event_id, o.attempts, o.due_at, o.worker_deaths, o.touched, o.slot, e.body, " \
	OSMTALK_RECIPIENT("$6") \
	"  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4))" \
	"		WITH ORDINALITY w (endpoint_hash, after, until, n, number)" \
	" CROSS JOIN LATERAL (" \
	"	SELECT r.id, r.event_id, r.attempts, r.due_at, r.worker_deaths, r.slot," \
	"		   r.xmax OPERATOR(pg_catalog.<>) '0'::pg_catalog.xid AS touched" \
	"	  FROM osmtalk.outbox r" \
	"	 WHERE r.endpoint_hash OPERATOR(pg_catalog.=) w.endpoint_hash" \
	"	   AND r.id OPERATOR(pg_catalog.>) w.after AND r.id OPERATOR(pg_catalog.<=) w.until" \
	"	   AND r.origin OPERATOR(pg_catalog.=) $5" \
	"	 ORDER BY r.id LIMIT w.n) o" \
	"  LEFT JOIN LATERAL (SELECT v.type, v.org_id, v.campaign_id, v.body FROM osmtalk.events_%s v" \
	"					   WHERE v.slot OPERATOR(pg_catalog.=) o.slot AND v.id OPERATOR(pg_catalog.=) o.event_id" \
	"					  OFFSET 0) e ON true" \
	OSMTALK_RECIPIENT_TABLES
/* clang-format on */
#define READ_ROWS_TYPES                                                          \
	{                                                                            \
		INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID, TEXTOID, BOOLOID \
	}
#define READ_ROWS_RECIPIENT 10 /* the first of its columns */

/* Events that are in another slot. */
static OsmtalkStatement read_others = {
	"osmtalk: claim events",
	/* clang-format off */
	"SELECT k.number, o.slot, e.body, " OSMTALK_RECIPIENT("$3")
	"  FROM " OSMTALK_KEYS
	" CROSS JOIN LATERAL (SELECT r.event_id, r.slot FROM osmtalk.outbox r"
	"					   WHERE r.endpoint_hash OPERATOR(pg_catalog.=) k.endpoint_hash AND r.id OPERATOR(pg_catalog.=) k.id"
	"					  OFFSET 0) o"
	" CROSS JOIN LATERAL (SELECT v.type, v.org_id, v.campaign_id, v.body FROM osmtalk.events v"
	"					   WHERE v.slot OPERATOR(pg_catalog.=) o.slot AND v.id OPERATOR(pg_catalog.=) o.event_id"
	"					  OFFSET 0) e"
	OSMTALK_RECIPIENT_TABLES,
	/* clang-format on */
	3,
	{INT8ARRAYOID, INT8ARRAYOID, BOOLOID}};

/*
 * And those that are not in the slot that the outbox names, for it was not
 * given, or not right: they are looked for in all of them.
 */
static OsmtalkStatement find_events = {
	"osmtalk: look for events in other slots",
	"WITH found AS ("
	"	UPDATE osmtalk.outbox o SET slot = e.slot"
	"	  FROM " OSMTALK_KEYS ", osmtalk.events e"
	"	 WHERE o.endpoint_hash OPERATOR(pg_catalog.=) k.endpoint_hash AND o.id OPERATOR(pg_catalog.=) k.id"
	"	   AND e.id OPERATOR(pg_catalog.=) o.event_id"
	"	RETURNING k.number, e.slot, e.type, e.org_id, e.campaign_id, e.body)"
	" SELECT e.number, e.slot, e.body, " OSMTALK_RECIPIENT("$3") "  FROM found e" OSMTALK_RECIPIENT_TABLES,
	3,
	{INT8ARRAYOID, INT8ARRAYOID, BOOLOID}};
#define MISSING_RECIPIENT 4 /* the first of its columns, of both */

/*
 * An event that was due when it was enqueued, though by today's clock it is
 * not yet.
 */
static OsmtalkStatement find_due_at_once = {
	"osmtalk: claim events",
	"SELECT FROM osmtalk.events e"
	" WHERE e.id OPERATOR(pg_catalog.=) $1 AND e.created_at OPERATOR(pg_catalog.>=) $2",
	2,
	{TEXTOID, TIMESTAMPTZOID}};

/*
 * A part of the outbox that is read, in the order of ids: of one endpoint
 * what follows its cursor, or a single row.
 */
typedef struct Window
{
	OsmtalkEndpoint *endpoint;
	int64 after;
	bool single;
	int ntickets;
	OsmtalkTicket *tickets; /* those not used yet, linked by next_ready */
	int nrows;
	int64 last; /* row that was dealt with */
} Window;

/* what the current transaction claims */
static OsmtalkTicket **picked = NULL;
static int npicked = 0;
static int picked_capacity = 0;
static dlist_head claimed = DLIST_STATIC_INIT(claimed);

static int16 last_slot = 0; /* of an event that was claimed */

/* Adds it to those claimed as soon as it exists: should memory run out in the middle, it is freed with them. */
static OsmtalkDelivery *
make_delivery(HeapTuple tuple, int64 id, int64 endpoint_hash)
{
	OsmtalkDelivery *d = osmtalk_delivery_create(id, endpoint_hash, &claimed);
	bool isnull;

	d->event_id = osmtalk_text_column(tuple, 3, osmtalk_delivery_context(), NULL);
	d->attempt = DatumGetInt32(osmtalk_column(tuple, 4, &isnull)) + 1;
	d->touched = DatumGetBool(osmtalk_column(tuple, 7, &isnull));
	d->slot = DatumGetInt16(osmtalk_column(tuple, 8, &isnull));
	d->body = osmtalk_text_column(tuple, 9, osmtalk_delivery_context(), &d->body_len);
	osmtalk_read_recipient(tuple, READ_ROWS_RECIPIENT, d);
	return d;
}

static void
grow_picked(void)
{
	int capacity = picked_capacity == 0 ? 1024 : picked_capacity * 2;

	if (picked == NULL)
		picked = MemoryContextAlloc(TopMemoryContext, capacity * sizeof(*picked));
	else
		picked = repalloc(picked, capacity * sizeof(*picked));
	picked_capacity = capacity;
}

static void
pick_all(OsmtalkScheduler *scheduler)
{
	TimestampTz now = GetCurrentTimestamp();
	OsmtalkTicket *t;

	for (;;)
	{
		/* before there is a ticket that could get lost */
		if (npicked == picked_capacity)
			grow_picked();
		if ((t = osmtalk_scheduler_pick(scheduler, now)) == NULL)
			return;
		picked[npicked++] = t;
	}
}

/* Where the picked events are: a window for each ticket, or each endpoint. */
static Window *
make_windows(int *nwindows)
{
	Window *windows = palloc(npicked * sizeof(Window));
	int n = 0;

	for (int i = 0; i < npicked; i++)
	{
		OsmtalkTicket *t = picked[i];
		OsmtalkEndpoint *e = t->endpoint;
		Window *w;

		if (t->id == 0 && e->mark > 0)
			w = &windows[e->mark - 1];
		else
		{
			w = &windows[n++];
			*w = (Window){.endpoint = e, .single = t->id != 0, .after = t->id != 0 ? t->id - 1 : e->cursor};
			w->last = w->after;
			if (!w->single)
				e->mark = n;
		}
		w->ntickets++;
		t->next_ready = w->tickets;
		w->tickets = t;
	}
	for (int i = 0; i < n; i++)
		windows[i].endpoint->mark = 0;
	*nwindows = n;
	return windows;
}

/* The statement that looks for events in that slot. */
static OsmtalkStatement *
read_rows_of(int16 slot)
{
	static OsmtalkStatement statements[OSMTALK_SLOTS + 1];
	OsmtalkStatement *s = &statements[slot + 1];

	if (s->sql == NULL)
	{
		char *sql = psprintf(READ_ROWS, slot < 0 ? "kept" : psprintf("%02d", slot));

		*s = (OsmtalkStatement){"osmtalk: claim events", MemoryContextStrdup(TopMemoryContext, sql), 6, READ_ROWS_TYPES};
	}
	return s;
}

static void
read_windows(const Window *windows, int n)
{
	int64 *hashes = palloc(n * sizeof(int64));
	int64 *after = palloc(n * sizeof(int64));
	int64 *until = palloc(n * sizeof(int64));
	int32 *limits = palloc(n * sizeof(int32));
	Datum values[6];

	for (int i = 0; i < n; i++)
	{
		hashes[i] = windows[i].endpoint->hash;
		after[i] = windows[i].after;
		until[i] = windows[i].single ? windows[i].after + 1 : PG_INT64_MAX;
		limits[i] = windows[i].ntickets;
	}
	values[0] = osmtalk_int8_array(hashes, n);
	values[1] = osmtalk_int8_array(after, n);
	values[2] = osmtalk_int8_array(until, n);
	values[3] = osmtalk_int4_array(limits, n);
	values[4] = osmtalk_origin();
	values[5] = BoolGetDatum(osmtalk_standard_webhooks_headers);
	osmtalk_select(read_rows_of(last_slot), values);
}

/*
 * Whether a row that is not due was so when it was enqueued.  Then the clock
 * has been set back since, and the event does not wait until it has caught up.
 * In the midst of the rows of another statement.
 */
static bool
was_due_at_once(HeapTuple tuple)
{
	SPITupleTable *rows = SPI_tuptable;
	uint64 nrows = SPI_processed;
	Datum values[2];
	bool isnull;
	bool found;

	values[0] = osmtalk_column(tuple, 3, &isnull);
	values[1] = osmtalk_column(tuple, 5, &isnull);
	osmtalk_select(&find_due_at_once, values);
	found = SPI_processed > 0;
	SPI_freetuptable(SPI_tuptable);
	SPI_tuptable = rows;
	SPI_processed = nrows;
	return found;
}

/* Takes the row, or leaves it for later. */
static void
take_row(OsmtalkScheduler *scheduler, Window *w, HeapTuple tuple, TimestampTz now, OsmtalkWaits *waits)
{
	bool isnull;
	int64 id = DatumGetInt64(osmtalk_column(tuple, 2, &isnull));
	TimestampTz due_at = DatumGetTimestampTz(osmtalk_column(tuple, 5, &isnull));
	int16 deaths = DatumGetInt16(osmtalk_column(tuple, 6, &isnull));
	OsmtalkTicket *t = w->tickets;
	OsmtalkDelivery *d;
	bool ok = true;

	w->nrows++;
	w->last = id;
	if (osmtalk_is_claimed(id))
		return;
	if (due_at > now && was_due_at_once(tuple))
		due_at = now;
	if (due_at > TimestampTzPlusMilliseconds(now, OSMTALK_SOON_MS))
		osmtalk_note_wait(waits, w->endpoint->hash, id, NULL);
	else if (due_at > now)
		ok = osmtalk_scheduler_found_later(scheduler, w->endpoint, id, due_at);
	else if (deaths >= OSMTALK_SUSPECT_DEATHS && !t->suspect)
		ok = osmtalk_scheduler_found_suspect(scheduler, w->endpoint, id);
	else
	{
		d = make_delivery(tuple, id, w->endpoint->hash);
		d->claimed_at = now;
		w->tickets = t->next_ready;
		d->ticket = t;
		t->delivery = d;
	}
	if (!ok)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
}

/* Looks by another statement for the events that are missing. */
static void
find_missing_events(OsmtalkStatement *statement)
{
	OsmtalkDelivery **missing = NULL;
	int n = 0;
	Datum values[3]; /* the keys, and the flag */
	dlist_iter iter;

	dlist_foreach(iter, &claimed)
	{
		OsmtalkDelivery *d = dlist_container(OsmtalkDelivery, node, iter.cur);

		if (d->body != NULL)
			continue;
		if (missing == NULL)
			missing = palloc(npicked * sizeof(*missing));
		missing[n++] = d;
	}
	if (n == 0)
		return;
	osmtalk_make_keys(missing, n, values);
	values[2] = BoolGetDatum(osmtalk_standard_webhooks_headers);
	osmtalk_execute(statement, values);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		bool isnull;
		OsmtalkDelivery *d = missing[DatumGetInt64(osmtalk_column(tuple, 1, &isnull)) - 1];

		d->slot = DatumGetInt16(osmtalk_column(tuple, 2, &isnull));
		d->body = osmtalk_text_column(tuple, 3, osmtalk_delivery_context(), &d->body_len);
		osmtalk_read_recipient(tuple, MISSING_RECIPIENT, d);
		osmtalk_wipe_recipient(tuple, MISSING_RECIPIENT);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Where the next are likely to be. */
static void
note_slot(void)
{
	const OsmtalkDelivery *last;

	if (dlist_is_empty(&claimed))
		return;
	last = dlist_container(OsmtalkDelivery, node, dlist_tail_node(&claimed));
	if (last->slot >= -1 && last->slot < OSMTALK_SLOTS)
		last_slot = last->slot;
}

/* The event is not sent now. */
static void
leave(OsmtalkDelivery *d)
{
	d->ticket->delivery = NULL;
	dlist_delete(&d->node);
	osmtalk_delivery_free(d);
}

/*
 * Rows that somebody has locked, or had, and may be about to remove: those
 * that cannot be locked now wait a little.
 */
static void
leave_locked(OsmtalkScheduler *scheduler, TimestampTz now)
{
	OsmtalkDelivery **touched = NULL;
	bool *unlocked;
	int n = 0;
	dlist_iter iter;

	dlist_foreach(iter, &claimed)
	{
		OsmtalkDelivery *d = dlist_container(OsmtalkDelivery, node, iter.cur);

		if (!d->touched)
			continue;
		if (touched == NULL)
			touched = palloc(npicked * sizeof(*touched));
		touched[n++] = d;
	}
	if (n == 0)
		return;
	unlocked = palloc0(n * sizeof(bool));
	osmtalk_lock_rows(touched, n, unlocked);
	for (int i = 0; i < n; i++)
	{
		OsmtalkDelivery *d = touched[i];

		if (unlocked[i])
			continue;
		if (!osmtalk_scheduler_found_later(scheduler, d->ticket->endpoint, d->outbox_id, now + LOCKED_PAUSE_US))
			ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
		leave(d);
	}
}

/* Those whose endpoint is left alone, or gets but one now and then. */
static void
leave_waiting(OsmtalkWaits *waits)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &claimed)
	{
		OsmtalkDelivery *d = dlist_container(OsmtalkDelivery, node, iter.cur);

		if (d->standing == OSMTALK_STANDING_SEND ||
			(d->standing == OSMTALK_STANDING_PROBE && osmtalk_begin_probe(d->endpoint_id)))
			continue;
		osmtalk_note_wait(waits, d->endpoint_hash, d->outbox_id, d->endpoint_id);
		leave(d);
	}
}

/* Tickets for which there was no event are ended. */
static void
end_unused_tickets(OsmtalkScheduler *scheduler)
{
	int used = 0;

	for (int i = 0; i < npicked; i++)
		if (picked[i]->delivery != NULL)
			picked[used++] = picked[i];
		else
			osmtalk_scheduler_done(scheduler, picked[i], OSMTALK_NOT_SENT);
	npicked = used;
}

void
osmtalk_claim(OsmtalkScheduler *scheduler, bool all_found)
{
	TimestampTz now;
	Window *windows;
	int nwindows;
	OsmtalkWaits waits = {0};

	pick_all(scheduler);
	if (npicked == 0)
		return;
	windows = make_windows(&nwindows);
	read_windows(windows, nwindows);

	now = GetCurrentTimestamp();
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		HeapTuple tuple = SPI_tuptable->vals[i];
		int64 number = DatumGetInt64(osmtalk_column(tuple, 1, &isnull));

		take_row(scheduler, &windows[number - 1], tuple, now, &waits);
		osmtalk_wipe_recipient(tuple, READ_ROWS_RECIPIENT);
	}
	SPI_freetuptable(SPI_tuptable);
	for (int i = 0; i < nwindows; i++)
		if (!windows[i].single)
			osmtalk_scheduler_passed(scheduler, windows[i].endpoint, windows[i].last,
									 windows[i].nrows < windows[i].ntickets ? OSMTALK_REST_NONE : all_found ? OSMTALK_REST_AS_FOUND
																											: OSMTALK_REST_UNKNOWN);
	leave_locked(scheduler, now);
	find_missing_events(&read_others);
	find_missing_events(&find_events);
	leave_waiting(&waits);
	osmtalk_read_previous_secrets(&claimed);
	note_slot();
	end_unused_tickets(scheduler);
	osmtalk_put_waiting(&waits);

	if (!dlist_is_empty(&claimed))
	{
		osmtalk_make_durable();
		osmtalk_note_claims(&claimed);
	}
}

/* The URL may be another than that by which the row was enqueued. */
static void
find_endpoint(OsmtalkScheduler *scheduler, OsmtalkDelivery *d)
{
	char name[OSMTALK_ENDPOINT_LEN];
	OsmtalkEndpoint *e = d->ticket->endpoint;
	int64 hash;

	if (d->url == NULL)
		return;
	hash = osmtalk_endpoint_of(d->url, strlen(d->url), name);
	if (hash != e->hash && (e = osmtalk_scheduler_endpoint(scheduler, hash, d->outbox_id)) != NULL)
		osmtalk_scheduler_move(scheduler, d->ticket, e);
	if (e != NULL && e->name == NULL)
		e->name = strdup(name);
}

void
osmtalk_claim_committed(OsmtalkScheduler *scheduler)
{
	TimestampTz now = GetCurrentTimestamp();

	while (!dlist_is_empty(&claimed))
	{
		OsmtalkDelivery *d = dlist_container(OsmtalkDelivery, node, dlist_pop_head_node(&claimed));

		find_endpoint(scheduler, d);
		osmtalk_scheduler_ready(scheduler, d->ticket, d->outbox_id, d->body_len, now);
	}
	npicked = 0;
}

void
osmtalk_claim_failed(OsmtalkScheduler *scheduler)
{
	while (!dlist_is_empty(&claimed))
		osmtalk_delivery_free(dlist_container(OsmtalkDelivery, node, dlist_pop_head_node(&claimed)));
	for (int i = 0; i < npicked; i++)
		osmtalk_scheduler_done(scheduler, picked[i], OSMTALK_NOT_SENT);
	npicked = 0;
}
