/*
 * unsent.c
 *		Outcomes of which no event tells.
 *
 * Where a call decides and there is, by the rules, nothing to send, a row says
 * so: why is known then, and may not be told from what the tables say later.
 * Knows nothing of the rules.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "insert.h"
#include "nested.h"
#include "unsent.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

extern Datum osmtalk_new_id(PG_FUNCTION_ARGS);

/* as sql/unsent.sql has them; if the table is not like this, it takes a statement */
static OsmtalkColumn columns[] = {
	{"type", OSMTALK_TEXT, 0},
	{"org_id", OSMTALK_TEXT, 0},
	{"campaign_id", OSMTALK_TEXT, 0},
	{"lead_id", OSMTALK_TEXT, 0},
	{"call_id", OSMTALK_TEXT, 0},
	{"reason", OSMTALK_TEXT, 0},
	{"decided_at", OSMTALK_TIME, 0},
	{"id", OSMTALK_TEXT, 0}};
static OsmtalkTable table = {columns, lengthof(columns), NULL, NULL};

/* the first columns are its parameters */
static OsmtalkPlan insert_outcome = {
	"INSERT INTO osmtalk.outcomes_without_event (type, org_id, campaign_id, lead_id, call_id, reason)"
	" VALUES ($1, $2, $3, $4, $5, $6)",
	6,
	{OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_TEXT}};

void
osmtalk_record_unsent(const OsmtalkUnsent *outcome)
{
	Datum row[lengthof(columns)] = {
		CStringGetTextDatum(outcome->type), outcome->org_id, outcome->campaign_id,
		outcome->lead_id, outcome->call_id, CStringGetTextDatum(outcome->reason),
		TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()),
		DirectFunctionCall1(osmtalk_new_id, CStringGetTextDatum("out"))};
	bool isnull[lengthof(columns)] = {false};

	for (int i = 0; i < insert_outcome.nargs; i++)
		isnull[i] = row[i] == (Datum) 0;
	if (!osmtalk_insert("outcomes_without_event", &table, row, isnull, 1))
		osmtalk_run(&insert_outcome, row, isnull);
}

void
osmtalk_record_unsent_call(HeapTuple call, TupleDesc desc, Datum campaign_id, const char *reason)
{
	static OsmtalkColumn of_call[] = {{"org_id", OSMTALK_TEXT, 0}, {"lead_id", OSMTALK_TEXT, 0}, {"id", OSMTALK_TEXT, 0}};
	Datum value[lengthof(of_call)];
	bool null[lengthof(of_call)];

	osmtalk_read_row(call, desc, of_call, lengthof(of_call), value, null);
	osmtalk_record_unsent(&(OsmtalkUnsent){
		.type = "campaign.lead_completed",
		.org_id = null[0] ? (Datum) 0 : value[0],
		.campaign_id = campaign_id,
		.lead_id = null[1] ? (Datum) 0 : value[1],
		.call_id = null[2] ? (Datum) 0 : value[2],
		.reason = reason});
}
