/*
 * events.c
 *		The events of calls and leads: which there are, where they go, what they
 *		say.
 *
 * What a body says, and which types are wanted, is said by SQL functions
 * (payloads.sql, subscriptions.sql).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "decide.h"
#include "events.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lookup.h"
#include "record.h"
#include "subscriptions.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(osmtalk_leads_after_transition);
PG_FUNCTION_INFO_V1(osmtalk_calls_announce);

/* ---- any event ---- */

static OsmtalkColumn org_columns[] = {{"default_webhook_url", OSMTALK_TEXT, 0}, {"webhook_events", OSMTALK_TEXT_ARRAY, 0}};

static OsmtalkRule is_subscribed = {"is_subscribed", 3, {OSMTALK_TEXT, OSMTALK_TEXT_ARRAY, OSMTALK_TEXT_ARRAY}};
static OsmtalkRule first_set = {"first_set", 2, {OSMTALK_TEXT, OSMTALK_TEXT}};

/*
 * Where the event goes, as of now: to the URL of its campaign, if that is a
 * datum, or its organisation's.  False if its type is not wanted, by the
 * campaign's word, if that is a datum, or the organisation's.
 */
static bool
find_url(OsmtalkEvent *event, Datum campaign_url, Datum campaign_events)
{
	Datum org[2] = {(Datum) 0, (Datum) 0};
	bool org_null[2] = {true, true};
	Datum url;
	bool isnull;

	if (event->org_id != (Datum) 0)
		(void) osmtalk_lookup("org_settings", event->org_id, org_columns, 2, org, org_null, NULL);
	if (!osmtalk_rule_holds(&is_subscribed,
							(Datum[]){CStringGetTextDatum(event->type), campaign_events, org[1]},
							(bool[]){false, campaign_events == (Datum) 0, org_null[1]}))
		return false;
	url = osmtalk_rule(&first_set, (Datum[]){campaign_url, org[0]},
					   (bool[]){campaign_url == (Datum) 0, org_null[0]}, &isnull);
	event->url = isnull ? (Datum) 0 : url;
	return true;
}

/* The time is the first argument of each. */
static void
render(OsmtalkEvent *event, OsmtalkRule *body, const Datum *args, const bool *args_null)
{
	bool isnull;

	event->body = osmtalk_rule(body, args, args_null, &isnull);
	if (isnull)
		event->body = (Datum) 0;
}

static Datum
transaction_time(void)
{
	return TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
}

/* ---- of a call ---- */

enum
{
	CALL_ID,
	CALL_LEAD_ID,
	CALL_AGENT_ID,
	CALL_ORG_ID,
	CALL_STATUS,
	CALL_STARTED_AT,
	CALL_ANSWERED_AT,
	CALL_PLACED_BY,
	CALL_COLUMNS
};

static OsmtalkColumn call_columns[CALL_COLUMNS] = {
	{"id", OSMTALK_TEXT, 0},
	{"lead_id", OSMTALK_TEXT, 0},
	{"agent_id", OSMTALK_TEXT, 0},
	{"org_id", OSMTALK_TEXT, 0},
	{"status", OSMTALK_OWN("call_status"), 0},
	{"started_at", OSMTALK_TIME, 0},
	{"answered_at", OSMTALK_TIME, 0},
	{"placed_by", OSMTALK_XID8, 0}};

static OsmtalkColumn campaign_of_lead[] = {{"campaign_id", OSMTALK_TEXT, 0}};
static OsmtalkColumn events_of_campaign[] = {{"webhook_events", OSMTALK_TEXT_ARRAY, 0}};

static OsmtalkRule analysis_completed_body = {
	"analysis_completed_body", 3, {OSMTALK_TIME, OSMTALK_OWN(OSMTALK_CALLS_ROW), OSMTALK_TEXT}};
static OsmtalkRule call_event_body = {
	"call_event_body", 4, {OSMTALK_TIME, OSMTALK_TEXT, OSMTALK_OWN(OSMTALK_CALLS_ROW), OSMTALK_TEXT}};
static OsmtalkRule call_events = {
	"call_events", 4, {OSMTALK_OWN("call_status"), OSMTALK_OWN("call_status"), OSMTALK_TIME, OSMTALK_TIME}};

/* What it is about; and what its campaign wants, a null pointer if that says nothing. */
static Datum
describe(OsmtalkEvent *event, const Datum *call, const bool *null)
{
	Datum campaign_id, events;
	bool no_campaign = true, no_events = true;

	if (!null[CALL_LEAD_ID] &&
		!osmtalk_lookup("leads", call[CALL_LEAD_ID], campaign_of_lead, 1, &campaign_id, &no_campaign, NULL))
		no_campaign = true;
	if (!no_campaign &&
		!osmtalk_lookup("campaigns", campaign_id, events_of_campaign, 1, &events, &no_events, NULL))
		no_events = true;
	event->org_id = null[CALL_ORG_ID] ? (Datum) 0 : call[CALL_ORG_ID];
	event->campaign_id = no_campaign ? (Datum) 0 : campaign_id;
	event->lead_id = null[CALL_LEAD_ID] ? (Datum) 0 : call[CALL_LEAD_ID];
	event->call_id = call[CALL_ID];
	return no_events ? (Datum) 0 : events;
}

void
osmtalk_record_analysis(HeapTuple row, TupleDesc desc)
{
	OsmtalkEvent event = {.type = "call.analysis_completed"};
	Datum call[CALL_COLUMNS], wanted;
	bool null[CALL_COLUMNS];

	osmtalk_read_row(row, desc, call_columns, CALL_COLUMNS, call, null);
	if (null[CALL_AGENT_ID] || !osmtalk_agent_is_analyzed(call[CALL_AGENT_ID]))
		return;
	wanted = describe(&event, call, null);
	if (!find_url(&event, (Datum) 0, wanted))
		return;
	render(&event, &analysis_completed_body, (Datum[]){transaction_time(), osmtalk_row_datum(row, desc), event.campaign_id},
		   (bool[]){false, false, event.campaign_id == (Datum) 0});
	osmtalk_record(&event);
}

void
osmtalk_record_call_events(HeapTuple row, TupleDesc desc, Datum status_before, bool before_null)
{
	OsmtalkEvent event = {0};
	Datum call[CALL_COLUMNS], wanted;
	bool null[CALL_COLUMNS], isnull;
	Datum *types;
	int ntypes;

	osmtalk_read_row(row, desc, call_columns, CALL_COLUMNS, call, null);
	deconstruct_array(DatumGetArrayTypeP(osmtalk_rule(&call_events,
													  (Datum[]){status_before, call[CALL_STATUS], call[CALL_STARTED_AT], call[CALL_ANSWERED_AT]},
													  (bool[]){before_null, null[CALL_STATUS], null[CALL_STARTED_AT], null[CALL_ANSWERED_AT]},
													  &isnull)),
					  TEXTOID, -1, false, TYPALIGN_INT, &types, NULL, &ntypes);
	if (ntypes == 0)
		return;
	wanted = describe(&event, call, null);
	for (int i = 0; i < ntypes; i++)
	{
		event.type = TextDatumGetCString(types[i]);
		if (!find_url(&event, (Datum) 0, wanted))
			continue;
		render(&event, &call_event_body, (Datum[]){transaction_time(), types[i], osmtalk_row_datum(row, desc), event.campaign_id},
			   (bool[]){false, false, false, event.campaign_id == (Datum) 0});
		osmtalk_record(&event);
	}
}

/*
 * Of a call that arrives.  History is not news: what this transaction has
 * placed carries its number.
 */
Datum
osmtalk_calls_announce(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = osmtalk_row_trigger(fcinfo, "calls", TRIGGER_EVENT_AFTER, TRIGGER_EVENT_INSERT);
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	Datum placed_by;
	bool isnull;
	int nest_level;

	if (!osmtalk_call_events_wanted())
		return PointerGetDatum(NULL);
	osmtalk_read_row(trigger->tg_trigtuple, desc, &call_columns[CALL_PLACED_BY], 1, &placed_by, &isnull);
	if (isnull || !FullTransactionIdEquals(DatumGetFullTransactionId(placed_by), GetTopFullTransactionIdIfAny()))
		return PointerGetDatum(NULL);

	nest_level = osmtalk_pin_search_path();
	SPI_connect();
	osmtalk_record_call_events(trigger->tg_trigtuple, desc, (Datum) 0, true);
	SPI_finish();
	osmtalk_unpin_search_path(nest_level);
	return PointerGetDatum(NULL);
}

/* ---- of a lead ---- */

enum
{
	LEAD_STATUS,
	LEAD_ID,
	LEAD_CAMPAIGN_ID,
	LEAD_CALL_ID,
	LEAD_COLUMNS
};

static OsmtalkColumn lead_columns[LEAD_COLUMNS] = {
	{"status", OSMTALK_OWN("lead_status"), 0},
	{"id", OSMTALK_TEXT, 0},
	{"campaign_id", OSMTALK_TEXT, 0},
	{"call_id", OSMTALK_TEXT, 0}};

static OsmtalkColumn campaign_columns[] = {
	{"org_id", OSMTALK_TEXT, 0}, {"webhook_url", OSMTALK_TEXT, 0}, {"webhook_events", OSMTALK_TEXT_ARRAY, 0}};

static OsmtalkRule is_terminal = {"is_terminal", 1, {OSMTALK_OWN("lead_status")}};
static OsmtalkRule lead_completed_body = {
	"lead_completed_body", 3, {OSMTALK_TIME, OSMTALK_OWN("campaigns"), OSMTALK_OWN(OSMTALK_LEADS_ROW)}};

/* The organisation, where it goes and the body, as of now; false if it is not wanted. */
static bool
render_transition(OsmtalkEvent *event, HeapTuple lead, TupleDesc desc)
{
	Datum campaign[3], campaign_row;
	bool campaign_null[3];

	if (!osmtalk_lookup("campaigns", event->campaign_id, campaign_columns, 3, campaign, campaign_null, &campaign_row))
		elog(ERROR, "the lead's campaign does not exist");
	event->org_id = campaign_null[0] ? (Datum) 0 : campaign[0];
	if (!find_url(event, campaign_null[1] ? (Datum) 0 : campaign[1], campaign_null[2] ? (Datum) 0 : campaign[2]))
		return false;
	render(event, &lead_completed_body, (Datum[]){transaction_time(), campaign_row, osmtalk_row_datum(lead, desc)}, NULL);
	return true;
}

/*
 * Each transition from a non-terminal into a terminal status is an event.
 */
Datum
osmtalk_leads_after_transition(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = osmtalk_row_trigger(fcinfo, "leads", TRIGGER_EVENT_AFTER, TRIGGER_EVENT_UPDATE);
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	OsmtalkEvent event = {.type = "campaign.lead_completed"};
	Datum old[LEAD_STATUS + 1], new[LEAD_COLUMNS];
	bool old_null[lengthof(old)], new_null[lengthof(new)];
	int nest_level;

	osmtalk_read_row(trigger->tg_trigtuple, desc, lead_columns, lengthof(old), old, old_null);
	osmtalk_read_row(trigger->tg_newtuple, desc, lead_columns, lengthof(new), new, new_null);
	if (old[LEAD_STATUS] == new[LEAD_STATUS] ||
		osmtalk_rule_holds(&is_terminal, &old[LEAD_STATUS], NULL) ||
		!osmtalk_rule_holds(&is_terminal, &new[LEAD_STATUS], NULL))
		return PointerGetDatum(NULL);

	nest_level = osmtalk_pin_search_path();
	SPI_connect();
	event.campaign_id = new[LEAD_CAMPAIGN_ID];
	event.lead_id = new[LEAD_ID];
	event.call_id = new_null[LEAD_CALL_ID] ? (Datum) 0 : new[LEAD_CALL_ID];
	if (render_transition(&event, trigger->tg_newtuple, desc))
		osmtalk_record(&event);
	SPI_finish();
	osmtalk_unpin_search_path(nest_level);
	return PointerGetDatum(NULL);
}
