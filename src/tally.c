/*
 * tally.c
 *		What came of attempts, by endpoint, until the database is told.
 *
 * An endpoint's row is written once for many attempts.  What is lost when the
 * process is killed is within the last second, and nothing rests on it but
 * statistics and how soon an endpoint is found to be failing.  Which follows
 * from it is for SQL to say: sql/endpoints.sql, statistics.sql.
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

static OsmtalkStatement note_results = {
	"osmtalk: note the health of endpoints",
	"SELECT osmtalk.note_results($1, $2, $3, $4, $5, $6, $7, $8, $9)",
	9,
	{TEXTARRAYOID, BOOLARRAYOID, INT4ARRAYOID, BOOLARRAYOID, BOOLARRAYOID, TIMESTAMPTZARRAYOID,
	 TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID}};

static OsmtalkStatement add_to_counters = {
	"osmtalk: count attempts",
	"SELECT osmtalk.add_to_counters($1, $2, $3, $4, $5, $6, $7)",
	7,
	{TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, FLOAT8ARRAYOID, TEXTARRAYOID}};

typedef struct Tally
{
	uint64 key[2]; /* of organisation and URL */
	char *org_id;
	char *url;

	/* statistics */
	int64 attempts;
	int64 delivered;
	int64 retried;
	int64 failed;
	double total_ms;
	int64 latencies[OSMTALK_LATENCIES];

	/* health */
	bool succeeded;
	bool ailing;  /* the database knows of failures, or of a state that is not healthy */
	int failures; /* after the last that succeeded */
	bool has_schedule;
	bool gone; /* 410 */
	TimestampTz first_failure_at;
	TimestampTz last_at;
	char error[OSMTALK_DELIVERY_ERROR_LEN];
	char *dead_event; /* one that failed and is not tried again */
} Tally;

static MemoryContext context = NULL;
static HTAB *tallies = NULL; /* NULL while there are none */
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
	bool found;

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
	t = hash_search(tallies, key, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) t + sizeof(key), 0, sizeof(*t) - sizeof(key));
		t->org_id = MemoryContextStrdup(context, d->org_id);
		t->url = MemoryContextStrdup(context, d->url);
	}
	return t;
}

static void
count(Tally *t, const OsmtalkDelivery *d)
{
	int latency = 0;

	t->attempts++;
	if (d->error[0] == '\0')
		t->delivered++;
	else if (d->retried)
		t->retried++;
	else
		t->failed++;
	if (d->http_status == 0)
		return;
	t->total_ms += d->duration_ms;
	while (latency < OSMTALK_LATENCIES - 1 && d->duration_ms > osmtalk_latency_bound[latency])
		latency++;
	t->latencies[latency]++;
}

static void
note(Tally *t, const OsmtalkDelivery *d)
{
	TimestampTz ended = TimestampTzPlusMilliseconds(d->started_at, (int64) d->duration_ms);

	t->last_at = Max(t->last_at, ended);
	t->has_schedule = t->has_schedule || d->retry_schedule != NULL;
	if (d->error[0] == '\0')
	{
		t->succeeded = true;
		t->ailing = t->ailing || d->endpoint_id != NULL || t->failures > 0;
		t->failures = 0;
		is_urgent = is_urgent || d->endpoint_id != NULL;
		return;
	}
	if (t->failures++ == 0)
		t->first_failure_at = ended;
	strlcpy(t->error, d->error, sizeof(t->error));
	t->gone = t->gone || d->http_status == 410;
	if (!d->retried && t->dead_event == NULL)
		t->dead_event = MemoryContextStrdup(context, d->event_id);
	is_urgent = is_urgent || d->retry_schedule != NULL;
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
		count(t, d);
		note(t, d);
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
make_counters_row(const Tally *t, const char *id, Datum *row)
{
	StringInfoData latencies;

	initStringInfo(&latencies);
	for (int i = 0; i < OSMTALK_LATENCIES; i++)
		appendStringInfo(&latencies, "%c" INT64_FORMAT, i == 0 ? '{' : ',', t->latencies[i]);
	appendStringInfoChar(&latencies, '}');
	row[0] = CStringGetTextDatum(id);
	row[1] = Int64GetDatum(t->attempts);
	row[2] = Int64GetDatum(t->delivered);
	row[3] = Int64GetDatum(t->retried);
	row[4] = Int64GetDatum(t->failed);
	row[5] = Float8GetDatum(t->total_ms);
	row[6] = CStringGetTextDatum(latencies.data);
}

static void
make_health_row(const Tally *t, const char *id, Datum *row, bool *isnull)
{
	row[0] = CStringGetTextDatum(id);
	row[1] = BoolGetDatum(t->succeeded);
	row[2] = Int32GetDatum(t->failures);
	row[3] = BoolGetDatum(t->has_schedule);
	row[4] = BoolGetDatum(t->gone);
	row[5] = TimestampTzGetDatum(t->first_failure_at);
	isnull[5] = t->failures == 0;
	row[6] = TimestampTzGetDatum(t->last_at);
	row[7] = text_or_null(t->error, &isnull[7]);
	row[8] = text_or_null(t->dead_event, &isnull[8]);
}

static void
add(Tally *all, const Tally *t)
{
	all->attempts += t->attempts;
	all->delivered += t->delivered;
	all->retried += t->retried;
	all->failed += t->failed;
	all->total_ms += t->total_ms;
	for (int i = 0; i < OSMTALK_LATENCIES; i++)
		all->latencies[i] += t->latencies[i];
}

static void
tell(void)
{
	int n = (int) hash_get_num_entries(tallies) + 1;
	Datum *counters = palloc(n * add_to_counters.nargs * sizeof(Datum));
	bool *counters_null = palloc0(n * add_to_counters.nargs * sizeof(bool));
	Datum *health = palloc(n * note_results.nargs * sizeof(Datum));
	bool *health_null = palloc0(n * note_results.nargs * sizeof(bool));
	Datum arrays[9];
	Tally all = {0};
	HASH_SEQ_STATUS status;
	Tally *t;
	int ncounters = 0;
	int nhealth = 0;
	char id[OSMTALK_ENDPOINT_ID_LEN];

	hash_seq_init(&status, tallies);
	while ((t = hash_seq_search(&status)) != NULL)
	{
		osmtalk_endpoint_id_of(t->org_id, strlen(t->org_id), t->url, strlen(t->url), id);
		make_counters_row(t, id, counters + ncounters * add_to_counters.nargs);
		ncounters++;
		add(&all, t);
		if (t->failures == 0 && !t->ailing)
			continue;
		make_health_row(t, id, health + nhealth * note_results.nargs, health_null + nhealth * note_results.nargs);
		nhealth++;
	}
	make_counters_row(&all, "", counters + ncounters * add_to_counters.nargs);
	osmtalk_make_arrays(&add_to_counters, counters, counters_null, ncounters + 1, arrays);
	osmtalk_execute(&add_to_counters, arrays);
	if (nhealth > 0)
	{
		osmtalk_make_arrays(&note_results, health, health_null, nhealth, arrays);
		osmtalk_execute(&note_results, arrays);
	}
}

void
osmtalk_flush_tallies(TimestampTz now)
{
	MemoryContext old = CurrentMemoryContext;

	if (now != DT_NOEND)
	{
		next_flush = Min(next_flush, TimestampTzPlusMilliseconds(now, FLUSH_INTERVAL_MS));
		failed_until = Min(failed_until, TimestampTzPlusMilliseconds(now, FAILED_PAUSE_MS));
	}
	if (tallies == NULL || now < failed_until || (!is_urgent && now < next_flush))
		return;
	next_flush = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), FLUSH_INTERVAL_MS);
	PG_TRY();
	{
		osmtalk_begin();
		/* at the end, somebody may be waiting for it */
		if (osmtalk_lock_tables(now != DT_NOEND))
			tell();
		osmtalk_commit();
		MemoryContextDelete(context);
		tallies = NULL;
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
	}
	PG_END_TRY();
	is_urgent = false;
}
