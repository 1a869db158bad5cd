/*
 * record.c
 *		From something that happened to rows in events and outbox.
 *
 * The one place that inserts into them.  Knows nothing of calls and leads, nor
 * what a body says.
 */
#include "postgres.h"

#include "fmgr.h"
#include "nested.h"
#include "record.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(osmtalk_record_event);

extern Datum osmtalk_new_id(PG_FUNCTION_ARGS);

static OsmtalkPlan insert_event = {
	"INSERT INTO osmtalk.events (id, type, org_id, campaign_id, lead_id, call_id, body, skipped_reason)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
	8,
	{OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT}};

static OsmtalkPlan insert_outbox = {
	"INSERT INTO osmtalk.outbox (event_id, endpoint_hash) VALUES ($1, osmtalk.endpoint_hash($2))",
	2,
	{OSMTALK_TEXT, OSMTALK_TEXT}};

static OsmtalkPlan select_url = {
	"SELECT t.url FROM osmtalk.delivery_target($1, $2, $3) t",
	3,
	{OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT}};

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
	osmtalk_run(&insert_event, values, isnull);
	if (has_url)
	{
		Datum row[] = {id, event->url};

		osmtalk_run(&insert_outbox, row, NULL);
	}
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
