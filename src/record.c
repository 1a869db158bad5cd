/*
 * record.c
 *		From something that happened to rows in events and outbox.
 *
 * The one place that inserts into them.  Knows nothing of calls and leads, nor
 * what a body says.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/sequence.h"
#include "fmgr.h"
#include "insert.h"
#include "record.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"
#include "wakeup.h"

PG_FUNCTION_INFO_V1(osmtalk_record_event);

extern Datum osmtalk_new_id(PG_FUNCTION_ARGS);
extern Datum osmtalk_current_origin(PG_FUNCTION_ARGS);
extern Datum osmtalk_current_slot(PG_FUNCTION_ARGS);
extern Datum osmtalk_endpoint_hash(PG_FUNCTION_ARGS);

/* ---- rows ---- */

/* as sql/tables.sql has them; if a table is not like this, it takes a statement */
static OsmtalkColumn event_columns[] = {
	{"id", OSMTALK_TEXT, 0},
	{"type", OSMTALK_TEXT, 0},
	{"org_id", OSMTALK_TEXT, 0},
	{"campaign_id", OSMTALK_TEXT, 0},
	{"lead_id", OSMTALK_TEXT, 0},
	{"call_id", OSMTALK_TEXT, 0},
	{"body", OSMTALK_TEXT, 0},
	{"skipped_reason", OSMTALK_TEXT, 0},
	{"created_at", OSMTALK_TIME, 0},
	{"slot", OSMTALK_INT2, 0}};
static OsmtalkTable events_slot = {event_columns, lengthof(event_columns), "events", NULL};

static OsmtalkColumn outbox_columns[] = {
	{"event_id", OSMTALK_TEXT, 0},
	{"endpoint_hash", OSMTALK_INT8, 0},
	{"id", OSMTALK_INT8, 0},
	{"due_at", OSMTALK_TIME, 0},
	{"attempts", OSMTALK_INT4, 0},
	{"origin", OSMTALK_TEXT, 0},
	{"xid", OSMTALK_XID8, 0},
	{"worker_deaths", OSMTALK_INT2, 0},
	{"slot", OSMTALK_INT2, 0},
	{"retries", OSMTALK_INT2, 0},
	{"redelivery_id", OSMTALK_INT8, 0}};
static const char *const outbox_triggers[] = {"wake_worker", "before_insert", NULL};
static OsmtalkTable outbox = {outbox_columns, lengthof(outbox_columns), NULL, outbox_triggers};

static OsmtalkPlan insert_event = {
	"INSERT INTO osmtalk.events (id, type, org_id, campaign_id, lead_id, call_id, body, skipped_reason)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
	8,
	{OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT}};

static OsmtalkPlan insert_outbox = {
	"INSERT INTO osmtalk.outbox (event_id, endpoint_hash) VALUES ($1, $2)",
	2,
	{OSMTALK_TEXT, OSMTALK_INT8}};

static OsmtalkPlan select_url = {
	"SELECT t.url FROM osmtalk.delivery_target($1, $2, $3) t",
	3,
	{OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT}};

/* The values are the statement's parameters, which are the first columns of the row. */
static void
write_event(const Datum *values, const bool *isnull)
{
	Datum row[lengthof(event_columns)];
	bool row_null[lengthof(event_columns)] = {false};
	int16 slot = DatumGetInt16(DirectFunctionCall1(osmtalk_current_slot, (Datum) 0));
	char partition[NAMEDATALEN];

	memcpy(row, values, insert_event.nargs * sizeof(Datum));
	memcpy(row_null, isnull, insert_event.nargs * sizeof(bool));
	row[8] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	row[9] = Int16GetDatum(slot);
	snprintf(partition, sizeof(partition), "events_%02d", slot);
	if (!osmtalk_insert(partition, &events_slot, row, row_null, 1))
		osmtalk_run(&insert_event, values, isnull);
}

/* The first two columns of the row are the statement's parameters; the last is null, it is no redelivery's. */
static void
enqueue(Datum event_id, Datum endpoint_hash)
{
	Oid ids = get_relname_relid("outbox_id_seq", osmtalk_installation());
	Datum row[] = {
		event_id,
		endpoint_hash,
		(Datum) 0,
		TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()),
		Int32GetDatum(0),
		DirectFunctionCall1(osmtalk_current_origin, (Datum) 0),
		FullTransactionIdGetDatum(GetTopFullTransactionId()),
		Int16GetDatum(0),
		DirectFunctionCall1(osmtalk_current_slot, (Datum) 0),
		Int16GetDatum(0),
		(Datum) 0};
	bool isnull[lengthof(row)] = {[lengthof(row) - 1] = true};

	/* what before_insert does beyond that is for rows without an endpoint */
	if (DatumGetInt64(endpoint_hash) != 0 && OidIsValid(ids))
	{
		row[2] = Int64GetDatum(nextval_internal(ids, true));
		if (osmtalk_insert("outbox", &outbox, row, isnull, 1))
		{
			osmtalk_wake_at_commit(OSMTALK_WAKE_LOOK);
			return;
		}
	}
	osmtalk_run(&insert_outbox, row, NULL);
}

Datum
osmtalk_record(const OsmtalkEvent *event)
{
	Datum id = DirectFunctionCall1(osmtalk_new_id, CStringGetTextDatum("evt"));
	bool has_url = event->url != (Datum) 0;
	Datum values[] = {id, CStringGetTextDatum(event->type), event->org_id, event->campaign_id, event->lead_id,
					  event->call_id, event->body, has_url ? (Datum) 0 : CStringGetTextDatum("no webhook URL")};
	bool isnull[lengthof(values)];

	for (int i = 0; i < lengthof(values); i++)
		isnull[i] = values[i] == (Datum) 0;
	write_event(values, isnull);
	if (has_url)
		enqueue(id, DirectFunctionCall1(osmtalk_endpoint_hash, event->url));
	return id;
}

/* record_event(type, org_id, campaign_id, lead_id, call_id, body) */
Datum
osmtalk_record_event(PG_FUNCTION_ARGS)
{
	OsmtalkEvent event = {0};
	Datum *const fields[] = {NULL, &event.org_id, &event.campaign_id, &event.lead_id, &event.call_id, &event.body};
	Datum target[3];
	bool target_null[3];
	Datum id;
	bool isnull;
	int nest_level;

	for (int i = 1; i < lengthof(fields); i++)
		if (!PG_ARGISNULL(i))
			*fields[i] = PG_GETARG_DATUM(i);
	for (int i = 0; i < 3; i++)
	{
		target[i] = PG_GETARG_DATUM(i);
		target_null[i] = PG_ARGISNULL(i);
	}
	if (PG_ARGISNULL(0))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("an event must have a type"));
	event.type = TextDatumGetCString(PG_GETARG_DATUM(0));

	nest_level = osmtalk_pin_search_path();
	SPI_connect();
	if (osmtalk_run(&select_url, target, target_null) == 1)
	{
		Datum url = osmtalk_result(1, &isnull);

		if (!isnull)
			event.url = url;
	}
	id = SPI_datumTransfer(osmtalk_record(&event), false, -1);
	SPI_finish();
	osmtalk_unpin_search_path(nest_level);
	PG_RETURN_DATUM(id);
}
