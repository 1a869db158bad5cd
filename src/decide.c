/*
 * decide.c
 *		How a call decides its lead.
 *
 * What the rules say is said by SQL functions (rules.sql, configuration.sql, payloads.sql); here is
 * the order in which they are asked, and the statements.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "decide.h"
#include "events.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lookup.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(osmtalk_decide_lead_sql);
PG_FUNCTION_INFO_V1(osmtalk_record_analysis_sql);
PG_FUNCTION_INFO_V1(osmtalk_leads_before_status);

/* ---- deciding ---- */

enum
{
	CALL_ID,
	CALL_LEAD_ID,
	CALL_AGENT_ID,
	CALL_STATUS,
	CALL_ANALYSIS,
	CALL_COLUMNS
};

static OsmtalkColumn call_columns[CALL_COLUMNS] = {
	{"id", OSMTALK_TEXT, 0},
	{"lead_id", OSMTALK_TEXT, 0},
	{"agent_id", OSMTALK_TEXT, 0},
	{"status", OSMTALK_OWN("call_status"), 0},
	{"analysis", OSMTALK_JSONB, 0}};

static OsmtalkRule disposition_by = {
	"disposition_by", 3, {OSMTALK_OWN("call_status"), OSMTALK_BOOL, OSMTALK_JSONB}};

static OsmtalkRule is_terminal = {"is_terminal", 1, {OSMTALK_OWN("lead_status")}};
static OsmtalkRule has_analysis = {"has_analysis", 1, {OSMTALK_JSONB}};
static OsmtalkRule lead_outcome = {"lead_outcome", 1, {OSMTALK_OWN("call_status")}};
static OsmtalkRule is_retried = {
	"is_retried", 4, {OSMTALK_OWN("lead_status"), OSMTALK_INT4, OSMTALK_OWN("_lead_status"), OSMTALK_INT4}};

/* Each names the columns that it changes: triggers of the user's may go by them. */
static OsmtalkPlan set_outcome = {
	"UPDATE osmtalk.leads SET status = $2, outcome = $3, disposition = $4 WHERE id OPERATOR(pg_catalog.=) $1",
	4,
	{OSMTALK_TEXT, OSMTALK_OWN("lead_status"), OSMTALK_JSONB, OSMTALK_TEXT}};

static OsmtalkPlan set_retry = {
	"UPDATE osmtalk.leads SET status = 'pending', outcome = $2,"
	" next_attempt_at = pg_catalog.now() OPERATOR(pg_catalog.+) $3"
	" WHERE id OPERATOR(pg_catalog.=) $1",
	3,
	{OSMTALK_TEXT, OSMTALK_JSONB, OSMTALK_INTERVAL}};

static OsmtalkPlan apply_analysis = {
	"UPDATE osmtalk.leads SET outcome = $3, disposition ="
	" CASE WHEN status OPERATOR(pg_catalog.=) 'completed'::osmtalk.lead_status THEN COALESCE($4, disposition) END"
	" WHERE id OPERATOR(pg_catalog.=) $1 AND call_id OPERATOR(pg_catalog.=) $2",
	4,
	{OSMTALK_TEXT, OSMTALK_TEXT, OSMTALK_JSONB, OSMTALK_TEXT}};

static OsmtalkRule analysis_configured = {
	"analysis_configured", 1, {OSMTALK_OWN("agents")}};

bool
osmtalk_agent_is_analyzed(Datum agent_id)
{
	Datum agent;

	return osmtalk_lookup("agents", agent_id, NULL, 0, NULL, NULL, &agent) &&
		osmtalk_rule_holds(&analysis_configured, &agent, NULL);
}

/*
 * The disposition that the call gives its lead.  The agent is looked at only
 * where it makes a difference.
 */
static Datum
disposition_of(const Datum *call, const bool *null, bool *isnull)
{
	Datum values[3] = {call[CALL_STATUS], BoolGetDatum(false), call[CALL_ANALYSIS]};
	bool isnulls[3] = {null[CALL_STATUS], false, null[CALL_ANALYSIS]};
	Datum unanalyzed, analyzed;
	bool analyzed_null;

	unanalyzed = osmtalk_rule(&disposition_by, values, isnulls, isnull);
	if (null[CALL_AGENT_ID])
		return unanalyzed;
	values[1] = BoolGetDatum(true);
	analyzed = osmtalk_rule(&disposition_by, values, isnulls, &analyzed_null);
	if (!osmtalk_is_distinct(TEXTOID, unanalyzed, *isnull, analyzed, analyzed_null) ||
		!osmtalk_agent_is_analyzed(call[CALL_AGENT_ID]))
		return unanalyzed;
	*isnull = analyzed_null;
	return analyzed;
}

void
osmtalk_apply_analysis(HeapTuple row, TupleDesc desc)
{
	Datum call[CALL_COLUMNS], disposition;
	bool null[CALL_COLUMNS], no_analysis, disposition_null;

	osmtalk_read_row(row, desc, call_columns, CALL_COLUMNS, call, null);
	if (null[CALL_LEAD_ID])
		return;
	no_analysis = !osmtalk_rule_holds(&has_analysis, &call[CALL_ANALYSIS], &null[CALL_ANALYSIS]);
	disposition = disposition_of(call, null, &disposition_null);
	osmtalk_run(&apply_analysis, (Datum[]){call[CALL_LEAD_ID], call[CALL_ID], call[CALL_ANALYSIS], disposition},
				(bool[]){false, false, no_analysis, disposition_null});
}

enum
{
	OF_LEAD_STATUS,
	OF_LEAD_ATTEMPTS,
	OF_LEAD_CAMPAIGN_ID,
	OF_LEAD_CALL_ID,
	OF_LEAD_COLUMNS
};

static OsmtalkColumn of_lead[OF_LEAD_COLUMNS] = {
	{"status", OSMTALK_OWN("lead_status"), 0},
	{"attempts", OSMTALK_INT4, 0},
	{"campaign_id", OSMTALK_TEXT, 0},
	{"call_id", OSMTALK_TEXT, 0}};

static OsmtalkColumn of_policy[] = {
	{"retry_on", OSMTALK_OWN("_lead_status"), 0},
	{"max_attempts", OSMTALK_INT4, 0},
	{"retry_backoff", OSMTALK_INTERVAL, 0}};

void
osmtalk_decide_lead(HeapTuple row, TupleDesc desc)
{
	Datum call[CALL_COLUMNS], lead[OF_LEAD_COLUMNS], policy[3];
	bool null[CALL_COLUMNS], lead_null[OF_LEAD_COLUMNS], policy_null[3];
	Datum outcome, analysis, disposition;
	bool outcome_null, no_analysis, disposition_null;

	osmtalk_read_row(row, desc, call_columns, CALL_COLUMNS, call, null);
	if (null[CALL_LEAD_ID] ||
		!osmtalk_lookup("leads", call[CALL_LEAD_ID], of_lead, OF_LEAD_COLUMNS, lead, lead_null, NULL) ||
		osmtalk_is_distinct(TEXTOID, lead[OF_LEAD_CALL_ID], lead_null[OF_LEAD_CALL_ID], call[CALL_ID], null[CALL_ID]))
		return;
	if (osmtalk_rule_holds(&is_terminal, &lead[OF_LEAD_STATUS], NULL))
	{
		/*
		 * The application made it terminal while the call ran, and its event
		 * has said so: its word stands.
		 */
		osmtalk_apply_analysis(row, desc);
		return;
	}
	if (!osmtalk_lookup("campaigns", lead[OF_LEAD_CAMPAIGN_ID], of_policy, 3, policy, policy_null, NULL))
		return;

	analysis = call[CALL_ANALYSIS];
	no_analysis = !osmtalk_rule_holds(&has_analysis, &call[CALL_ANALYSIS], &null[CALL_ANALYSIS]);
	outcome = osmtalk_rule(&lead_outcome, &call[CALL_STATUS], &null[CALL_STATUS], &outcome_null);
	if (osmtalk_rule_holds(&is_retried,
						   (Datum[]){outcome, lead[OF_LEAD_ATTEMPTS], policy[0], policy[1]},
						   (bool[]){outcome_null, lead_null[OF_LEAD_ATTEMPTS], policy_null[0], policy_null[1]}))
		osmtalk_run(&set_retry, (Datum[]){call[CALL_LEAD_ID], analysis, policy[2]},
					(bool[]){false, no_analysis, policy_null[2]});
	else
	{
		disposition = disposition_of(call, null, &disposition_null);
		osmtalk_run(&set_outcome, (Datum[]){call[CALL_LEAD_ID], outcome, analysis, disposition},
					(bool[]){false, outcome_null, no_analysis, disposition_null});
	}
}

/* Does with the call that is the function's argument what an update's trigger does. */
static void
do_with_call(FunctionCallInfo fcinfo, void (*what)(HeapTuple, TupleDesc))
{
	HeapTupleHeader call;
	HeapTupleData tuple;
	TupleDesc desc;
	int nest_level;

	if (PG_ARGISNULL(0))
		return;
	call = PG_GETARG_HEAPTUPLEHEADER(0);
	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(call), HeapTupleHeaderGetTypMod(call));
	tuple.t_len = HeapTupleHeaderGetDatumLength(call);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = call;

	nest_level = osmtalk_pin_search_path();
	SPI_connect();
	what(&tuple, desc);
	SPI_finish();
	osmtalk_unpin_search_path(nest_level);
	ReleaseTupleDesc(desc);
}

/* decide_lead(call) */
Datum
osmtalk_decide_lead_sql(PG_FUNCTION_ARGS)
{
	do_with_call(fcinfo, osmtalk_decide_lead);
	PG_RETURN_VOID();
}

/* record_analysis(call) */
Datum
osmtalk_record_analysis_sql(PG_FUNCTION_ARGS)
{
	do_with_call(fcinfo, osmtalk_record_analysis);
	PG_RETURN_VOID();
}

/* ---- a lead's status ---- */

enum
{
	LEAD_STATUS,
	LEAD_DISPOSITION,
	LEAD_NEXT_ATTEMPT_AT,
	LEAD_COMPLETED_AT,
	LEAD_COLUMNS
};

static OsmtalkColumn lead_columns[LEAD_COLUMNS] = {
	{"status", OSMTALK_OWN("lead_status"), 0},
	{"disposition", OSMTALK_TEXT, 0},
	{"next_attempt_at", OSMTALK_TIME, 0},
	{"completed_at", OSMTALK_TIME, 0}};

static OsmtalkRule lead_disposition = {
	"lead_disposition", 2, {OSMTALK_OWN("lead_status"), OSMTALK_TEXT}};

/*
 * Keeps the columns that follow from the status in step with it, whoever
 * changes it.
 */
Datum
osmtalk_leads_before_status(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = osmtalk_row_trigger(fcinfo, "leads", TRIGGER_EVENT_BEFORE, TRIGGER_EVENT_UPDATE);
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	Datum old[LEAD_STATUS + 1], new[LEAD_COMPLETED_AT + 1], values[2];
	bool old_null[lengthof(old)], new_null[lengthof(new)], isnull[2];
	bool changed[lengthof(new)] = {false};

	osmtalk_read_row(trigger->tg_trigtuple, desc, lead_columns, lengthof(old), old, old_null);
	osmtalk_read_row(trigger->tg_newtuple, desc, lead_columns, lengthof(new), new, new_null);
	/* a null status is not for us to refuse */
	if (old_null[LEAD_STATUS] || new_null[LEAD_STATUS] || old[LEAD_STATUS] == new[LEAD_STATUS])
		return PointerGetDatum(trigger->tg_newtuple);

	if (!osmtalk_rule_holds(&is_terminal, &new[LEAD_STATUS], NULL))
	{
		new_null[LEAD_COMPLETED_AT] = true;
		changed[LEAD_COMPLETED_AT] = true;
	}
	else
	{
		new_null[LEAD_NEXT_ATTEMPT_AT] = true;
		changed[LEAD_NEXT_ATTEMPT_AT] = true;
		if (!osmtalk_rule_holds(&is_terminal, &old[LEAD_STATUS], NULL))
		{
			new[LEAD_COMPLETED_AT] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
			new_null[LEAD_COMPLETED_AT] = false;
			changed[LEAD_COMPLETED_AT] = true;
		}
	}
	values[0] = new[LEAD_STATUS];
	isnull[0] = false;
	values[1] = new[LEAD_DISPOSITION];
	isnull[1] = new_null[LEAD_DISPOSITION];
	new[LEAD_DISPOSITION] = osmtalk_rule(&lead_disposition, values, isnull, &new_null[LEAD_DISPOSITION]);
	changed[LEAD_DISPOSITION] = true;
	return PointerGetDatum(osmtalk_write_row(trigger->tg_newtuple, desc, lead_columns, lengthof(new),
											 changed, new, new_null));
}
