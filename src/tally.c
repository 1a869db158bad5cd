/*
 * tally.c
 *		What came of attempts, by endpoint, until the database is told.
 *
 * An endpoint's row is written once for many attempts.  What is lost when the
 * process is killed is within the last second, and nothing rests on it but
 * statistics and how soon an endpoint is found to be failing.  Which follows
 * from it is for SQL to say: sql/endpoints.sql, statistics.sql.
 *
 * A session may lock rows that are to be written, and stay in its transaction.
 * What concerns these is kept, and told with what comes after; everything else
 * is told nonetheless.  So there is never more than one tally for an endpoint.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "endpoint.h"
#include "latency.h"
#include "ownership.h"
#include "slot.h"
#include "statements.h"
#include "tally.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FLUSH_INTERVAL_MS 1000

/* after a failure not even what is urgent is told sooner */
#define FAILED_PAUSE_MS 5000

/* what is locked when the process ends, mostly by others that end, is tried so often, with pauses */
#define LAST_TRIES 5
#define LAST_PAUSE_US 20000

static OsmtalkStatement note_results = {
	"osmtalk: note the health of endpoints",
	"SELECT k.number FROM osmtalk.note_results($1, $2, $3, $4, $5, $6, $7, $8, $9) k (number)",
	9,
	{TEXTARRAYOID, BOOLARRAYOID, INT4ARRAYOID, BOOLARRAYOID, BOOLARRAYOID, TIMESTAMPTZARRAYOID,
	 TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID}};

static OsmtalkStatement add_to_counters = {
	"osmtalk: count attempts",
	"SELECT k.number FROM osmtalk.add_to_counters($1, $2, $3, $4, $5, $6, $7) k (number)",
	7,
	{TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, FLOAT8ARRAYOID, TEXTARRAYOID}};

/* what one row in the database is about */
typedef struct Part
{
	bool told;	 /* by the current transaction, or there was nothing to tell */
	bool locked; /* the row was, when it was to be told: not tried again with what is urgent */
} Part;

/* statistics */
typedef struct Counts
{
	Part part;
	int64 attempts;
	int64 delivered;
	int64 retried;
	int64 failed;
	double total_ms;
	int64 latencies[OSMTALK_LATENCIES];
} Counts;

typedef struct Health
{
	Part part;
	bool succeeded;
	bool ailing;  /* the database knows of failures, or of a state that is not healthy */
	int failures; /* after the last that succeeded */
	bool has_schedule;
	bool gone; /* 410 */
	TimestampTz first_failure_at;
	TimestampTz last_at;
	char error[OSMTALK_DELIVERY_ERROR_LEN];
	char *dead_event; /* one that failed and is not tried again */
} Health;

typedef struct Tally
{
	uint64 key[2]; /* of organisation and URL */
	char *org_id;
	char *url;
	Counts counts;
	Health health;
} Tally;

static MemoryContext context = NULL;
static HTAB *tallies = NULL; /* NULL while there is nothing to tell */
static Counts all;			 /* of all endpoints */
static bool is_urgent = false;
static TimestampTz next_flush = 0;
static TimestampTz failed_until = 0;

/* ---- counting ---- */

static Tally *
find(const OsmtalkDelivery *d)
{
	size_t org_len = strlen(d->org_id);
	size_t url_len = strlen(d->url);
	uint64 key[2];
	Tally *t;

	if (tallies == NULL)
	{
		context = AllocSetContextCreate(TopMemoryContext, "osmtalk tallies", ALLOCSET_DEFAULT_SIZES);
		tallies = hash_create("osmtalk tallies", 64,
							  &(HASHCTL){.keysize = sizeof(key), .entrysize = sizeof(Tally), .hcxt = context},
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	for (int i = 0; i < 2; i++)
		key[i] = hash_combine64(hash_bytes_extended((const unsigned char *) d->org_id, org_len, i),
								hash_bytes_extended((const unsigned char *) d->url, url_len, i));
	t = hash_search(tallies, key, HASH_FIND, NULL);
	if (t == NULL)
	{
		/* before there is an entry, which must not be without them should memory run out */
		char *org_id = MemoryContextStrdup(context, d->org_id);
		char *url = MemoryContextStrdup(context, d->url);

		t = hash_search(tallies, key, HASH_ENTER, NULL);
		memset((char *) t + sizeof(key), 0, sizeof(*t) - sizeof(key));
		t->org_id = org_id;
		t->url = url;
	}
	return t;
}

static void
count(Counts *c, const OsmtalkDelivery *d)
{
	int latency = 0;

	c->attempts++;
	if (d->error[0] == '\0')
		c->delivered++;
	else if (d->retried)
		c->retried++;
	else
		c->failed++;
	if (d->http_status == 0)
		return;
	c->total_ms += d->duration_ms;
	while (latency < OSMTALK_LATENCIES - 1 && d->duration_ms > osmtalk_latency_bound[latency])
		latency++;
	c->latencies[latency]++;
}

static void
note(Health *h, const OsmtalkDelivery *d)
{
	TimestampTz ended = TimestampTzPlusMilliseconds(d->started_at, (int64) d->duration_ms);

	h->last_at = Max(h->last_at, ended);
	h->has_schedule = h->has_schedule || d->retry_schedule != NULL;
	if (d->error[0] == '\0')
	{
		h->succeeded = true;
		h->ailing = h->ailing || d->endpoint_id != NULL || h->failures > 0;
		h->failures = 0;
		is_urgent = is_urgent || (d->endpoint_id != NULL && !h->part.locked);
		return;
	}
	if (h->failures++ == 0)
		h->first_failure_at = ended;
	strlcpy(h->error, d->error, sizeof(h->error));
	h->gone = h->gone || d->http_status == 410;
	if (!d->retried && h->dead_event == NULL)
		h->dead_event = MemoryContextStrdup(context, d->event_id);
	is_urgent = is_urgent || (d->retry_schedule != NULL && !h->part.locked);
}

void
osmtalk_tally(const OsmtalkDelivery *d)
{
	MemoryContext old = CurrentMemoryContext;
	Tally *t;

	if (d->org_id == NULL || d->url == NULL)
		return;
	PG_TRY();
	{
		t = find(d);
		count(&t->counts, d);
		count(&all, d);
		note(&t->health, d);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		FlushErrorState();
	}
	PG_END_TRY();
}

/* ---- telling ---- */

static Datum
text_or_null(const char *s, bool *isnull)
{
	*isnull = s == NULL || s[0] == '\0';
	return *isnull ? (Datum) 0 : CStringGetTextDatum(s);
}

static void
make_counts_row(const Counts *c, const char *id, Datum *row)
{
	StringInfoData latencies;

	initStringInfo(&latencies);
	for (int i = 0; i < OSMTALK_LATENCIES; i++)
		appendStringInfo(&latencies, "%c" INT64_FORMAT, i == 0 ? '{' : ',', c->latencies[i]);
	appendStringInfoChar(&latencies, '}');
	row[0] = CStringGetTextDatum(id);
	row[1] = Int64GetDatum(c->attempts);
	row[2] = Int64GetDatum(c->delivered);
	row[3] = Int64GetDatum(c->retried);
	row[4] = Int64GetDatum(c->failed);
	row[5] = Float8GetDatum(c->total_ms);
	row[6] = CStringGetTextDatum(latencies.data);
}

static void
make_health_row(const Health *h, const char *id, Datum *row, bool *isnull)
{
	row[0] = CStringGetTextDatum(id);
	row[1] = BoolGetDatum(h->succeeded);
	row[2] = Int32GetDatum(h->failures);
	row[3] = BoolGetDatum(h->has_schedule);
	row[4] = BoolGetDatum(h->gone);
	row[5] = TimestampTzGetDatum(h->first_failure_at);
	isnull[5] = h->failures == 0;
	row[6] = TimestampTzGetDatum(h->last_at);
	row[7] = text_or_null(h->error, &isnull[7]);
	row[8] = text_or_null(h->dead_event, &isnull[8]);
}

/* Within a transaction. */
static const char *
id_of(const Tally *t)
{
	char *id = palloc(OSMTALK_ENDPOINT_ID_LEN);

	osmtalk_endpoint_id_of(t->org_id, strlen(t->org_id), t->url, strlen(t->url), id);
	return id;
}

/* The statement returns the numbers of those rows that others have locked. */
static void
tell(OsmtalkStatement *statement, const Datum *rows, const bool *isnull, Part **parts, int n)
{
	Datum arrays[9];

	if (n == 0)
		return;
	osmtalk_make_arrays(statement, rows, isnull, n, arrays);
	osmtalk_execute(statement, arrays);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool null;
		Part *part = parts[DatumGetInt32(osmtalk_column(SPI_tuptable->vals[i], 1, &null)) - 1];

		part->told = false;
		part->locked = true;
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Whether it is to be told now, and notes in it whether it will be; what is no news is, in a way. */
static bool
is_told_now(Part *part, bool is_news, bool locked_too)
{
	part->told = locked_too || !part->locked || !is_news;
	return part->told && is_news;
}

static void
tell_health(bool locked_too)
{
	int most = (int) hash_get_num_entries(tallies);
	Datum *rows = palloc(most * note_results.nargs * sizeof(Datum));
	bool *isnull = palloc0(most * note_results.nargs * sizeof(bool));
	Part **parts = palloc(most * sizeof(Part *));
	int n = 0;
	HASH_SEQ_STATUS status;
	Tally *t;

	hash_seq_init(&status, tallies);
	while ((t = hash_seq_search(&status)) != NULL)
	{
		Health *h = &t->health;

		if (!is_told_now(&h->part, h->failures > 0 || h->ailing, locked_too))
			continue;
		make_health_row(h, id_of(t), rows + n * note_results.nargs, isnull + n * note_results.nargs);
		parts[n++] = &h->part;
	}
	tell(&note_results, rows, isnull, parts, n);
}

static void
tell_counts(bool locked_too)
{
	int most = (int) hash_get_num_entries(tallies) + 1;
	Datum *rows = palloc(most * add_to_counters.nargs * sizeof(Datum));
	bool *isnull = palloc0(most * add_to_counters.nargs * sizeof(bool));
	Part **parts = palloc(most * sizeof(Part *));
	int n = 0;
	HASH_SEQ_STATUS status;
	Tally *t;

	hash_seq_init(&status, tallies);
	while ((t = hash_seq_search(&status)) != NULL)
	{
		Counts *c = &t->counts;

		if (!is_told_now(&c->part, c->attempts > 0, locked_too))
			continue;
		make_counts_row(c, id_of(t), rows + n * add_to_counters.nargs);
		parts[n++] = &c->part;
	}
	/* last, for each worker writes that row */
	if (is_told_now(&all.part, all.attempts > 0, locked_too))
	{
		make_counts_row(&all, "", rows + n * add_to_counters.nargs);
		parts[n++] = &all.part;
	}
	tell(&add_to_counters, rows, isnull, parts, n);
}

static void
forget_all(void)
{
	MemoryContextDelete(context);
	tallies = NULL;
	memset(&all, 0, sizeof(all));
}

static void
forget_told(void)
{
	HASH_SEQ_STATUS status;
	Tally *t;

	if (all.part.told)
		memset(&all, 0, sizeof(all));
	hash_seq_init(&status, tallies);
	while ((t = hash_seq_search(&status)) != NULL)
	{
		bool nothing_left = t->counts.part.told && t->health.part.told;

		if (t->counts.part.told)
			memset(&t->counts, 0, sizeof(t->counts));
		if (t->health.part.told)
		{
			if (t->health.dead_event != NULL)
				pfree(t->health.dead_event);
			memset(&t->health, 0, sizeof(t->health));
		}
		if (nothing_left)
		{
			pfree(t->org_id);
			pfree(t->url);
			(void) hash_search(tallies, t->key, HASH_REMOVE, NULL);
		}
	}
	if (hash_get_num_entries(tallies) == 0 && all.attempts == 0)
		forget_all();
}

/* In a transaction of its own; false if it failed. */
static bool
flush(bool locked_too, bool at_end)
{
	MemoryContext old = CurrentMemoryContext;
	volatile bool ok = true;

	PG_TRY();
	{
		bool present;

		osmtalk_begin();
		/* at the end, somebody may be waiting for it */
		present = osmtalk_lock_tables(!at_end);
		if (present)
		{
			tell_health(locked_too);
			tell_counts(locked_too);
		}
		osmtalk_commit();
		if (present)
			forget_told();
		else
			forget_all();
	}
	PG_CATCH();
	{
		ErrorData *error = osmtalk_take_error(old);

		ereport(LOG,
				errcode(error->sqlerrcode),
				errmsg("osmtalk: could not note what became of attempts: %s", error->message));
		osmtalk_slot_note_error(error->message);
		FreeErrorData(error);
		failed_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), FAILED_PAUSE_MS);
		ok = false;
	}
	PG_END_TRY();
	is_urgent = false;
	return ok;
}

void
osmtalk_flush_tallies(TimestampTz now)
{
	bool is_time;

	if (now == DT_NOEND)
	{
		for (int i = 0; i < LAST_TRIES && tallies != NULL; i++)
		{
			if (i > 0)
				pg_usleep(LAST_PAUSE_US);
			if (!flush(true, true))
				break;
		}
		return;
	}
	next_flush = Min(next_flush, TimestampTzPlusMilliseconds(now, FLUSH_INTERVAL_MS));
	failed_until = Min(failed_until, TimestampTzPlusMilliseconds(now, FAILED_PAUSE_MS));
	is_time = now >= next_flush;
	if (tallies == NULL || now < failed_until || (!is_urgent && !is_time))
		return;
	if (is_time)
		next_flush = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), FLUSH_INTERVAL_MS);
	(void) flush(is_time, false);
}
