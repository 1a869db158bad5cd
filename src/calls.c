/*
 * calls.c
 *		What happens when a call changes: the triggers of updates.
 *
 * The one that runs before the row is written changes only that row (it may
 * lock the lead); effects on leads and events come after it.  Locks are taken
 * call first, then lead.  Neither has a WHEN condition: that would be parsed
 * anew by each statement, for more than the function takes to see that
 * nothing is to be done.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "decide.h"
#include "events.h"
#include "fmgr.h"
#include "lookup.h"
#include "nested.h"
#include "subscriptions.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(osmtalk_calls_before_update);
PG_FUNCTION_INFO_V1(osmtalk_calls_after_update);

enum
{
	/* a change of one of these is looked at */
	STARTED_AT,
	ANSWERED_AT,
	ENDED_AT,
	SIP_STATUS_CODE,
	VOICEMAIL_DETECTED,
	ERROR_FACT,
	ANALYSIS,
	ANALYSIS_ERROR,
	LEAD_ID,
	STATUS,
	PLACED_AT,
	DECIDED_AT,
	ANALYZED_AT,
	LOOKED_AT,
	AWAITING_SINCE = LOOKED_AT,
	ID,
	AGENT_ID,
	COLUMNS
};

static OsmtalkColumn columns[COLUMNS] = {
	{"started_at", OSMTALK_TIME, 0},
	{"answered_at", OSMTALK_TIME, 0},
	{"ended_at", OSMTALK_TIME, 0},
	{"sip_status_code", OSMTALK_INT4, 0},
	{"voicemail_detected", OSMTALK_BOOL, 0},
	{"error", OSMTALK_TEXT, 0},
	{"analysis", OSMTALK_JSONB, 0},
	{"analysis_error", OSMTALK_TEXT, 0},
	{"lead_id", OSMTALK_TEXT, 0},
	{"status", OSMTALK_OWN("call_status"), 0},
	{"placed_at", OSMTALK_TIME, 0},
	{"decided_at", OSMTALK_TIME, 0},
	{"analyzed_at", OSMTALK_TIME, 0},
	{"awaiting_since", OSMTALK_TIME, 0},
	{"id", OSMTALK_TEXT, 0},
	{"agent_id", OSMTALK_TEXT, 0}};

typedef struct Call
{
	Datum value[COLUMNS];
	bool null[COLUMNS];
} Call;

static OsmtalkRule is_open = {"is_open", 1, {OSMTALK_OWN("call_status")}};
static OsmtalkRule has_analysis = {"has_analysis", 1, {OSMTALK_JSONB}};
static OsmtalkRule call_status = {
	"call_status", 6, {OSMTALK_TIME, OSMTALK_TIME, OSMTALK_TIME, OSMTALK_INT4, OSMTALK_BOOL, OSMTALK_TEXT}};
static OsmtalkRule may_wait = {
	"may_wait", 5, {OSMTALK_OWN("call_status"), OSMTALK_TEXT, OSMTALK_JSONB, OSMTALK_TEXT, OSMTALK_TIME}};

static OsmtalkColumn lead_id = {"id", OSMTALK_TEXT, 0};
static OsmtalkColumn lead_call_id = {"call_id", OSMTALK_TEXT, 0};

static bool
is_distinct(const Call *a, const Call *b, int column)
{
	return osmtalk_is_distinct(columns[column].type.own_name ? OIDOID : columns[column].type.oid,
							   a->value[column], a->null[column], b->value[column], b->null[column]);
}

static void
set_column(Call *call, int column, Datum value, bool null)
{
	call->value[column] = value;
	call->null[column] = null;
}

/* Whether a call that has ended still waits for its analysis. */
static bool
awaits_analysis(const Call *call)
{
	static const int of[] = {STATUS, AGENT_ID, ANALYSIS, ANALYSIS_ERROR, AWAITING_SINCE};
	Datum values[lengthof(of)];
	bool isnull[lengthof(of)];

	for (int i = 0; i < lengthof(of); i++)
	{
		values[i] = call->value[of[i]];
		isnull[i] = call->null[of[i]];
	}
	return osmtalk_rule_holds(&may_wait, values, isnull) && osmtalk_agent_is_analyzed(call->value[AGENT_ID]);
}

/*
 * Locks the call's lead if this is its latest call.  The lock makes a call that
 * is placed meanwhile wait, or makes this one see it: only the latest decides.
 */
static bool
lock_if_latest(const Call *call)
{
	return osmtalk_lock("leads", call->value[LEAD_ID], &lead_id, call->value[ID], &lead_call_id);
}

/* Sets in NEW what follows from its facts. */
static void
decide_call(const Call *old, Call *new)
{
	Datum now = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());

	for (int i = STATUS; i <= AWAITING_SINCE; i++)
		set_column(new, i, old->value[i], old->null[i]);
	if (old->null[ANALYZED_AT] &&
		osmtalk_rule_holds(&has_analysis, &new->value[ANALYSIS], &new->null[ANALYSIS]) &&
		!osmtalk_rule_holds(&has_analysis, &old->value[ANALYSIS], &old->null[ANALYSIS]))
		set_column(new, ANALYZED_AT, now, false);

	if (osmtalk_rule_holds(&is_open, &old->value[STATUS], &old->null[STATUS]))
	{
		new->value[STATUS] = osmtalk_rule(&call_status, &new->value[STARTED_AT], &new->null[STARTED_AT],
										  &new->null[STATUS]);
		if (!osmtalk_rule_holds(&is_open, &new->value[STATUS], &new->null[STATUS]))
			set_column(new, AWAITING_SINCE,
					   !new->null[ENDED_AT] && DatumGetTimestampTz(new->value[ENDED_AT]) < DatumGetTimestampTz(now) ? new->value[ENDED_AT] : now,
					   false);
	}

	/* ended, and its lead is not decided: now, unless it waits */
	if (new->null[AWAITING_SINCE])
		return;
	if (new->null[LEAD_ID])
		new->null[AWAITING_SINCE] = true;
	else if (!awaits_analysis(new))
	{
		new->null[AWAITING_SINCE] = true;
		if (lock_if_latest(new))
			set_column(new, DECIDED_AT, now, false);
	}
}

Datum
osmtalk_calls_before_update(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = osmtalk_row_trigger(fcinfo, "calls", TRIGGER_EVENT_BEFORE, TRIGGER_EVENT_UPDATE);
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	Call old = {0}, given = {0}, new;
	bool changed[COLUMNS] = {false};
	bool relevant = false;

	osmtalk_read_row(trigger->tg_trigtuple, desc, columns, COLUMNS, old.value, old.null);
	osmtalk_read_row(trigger->tg_newtuple, desc, columns, COLUMNS, given.value, given.null);
	/* by what has changed, not by what the statement names: a trigger of the user's may have set it */
	for (int i = 0; i < LOOKED_AT && !relevant; i++)
		relevant = is_distinct(&given, &old, i);
	if (!relevant)
		return PointerGetDatum(trigger->tg_newtuple);

	new = given;
	decide_call(&old, &new);
	for (int i = STATUS; i <= AWAITING_SINCE; i++)
		changed[i] = is_distinct(&new, &given, i);
	return PointerGetDatum(osmtalk_write_row(trigger->tg_newtuple, desc, columns, COLUMNS,
											 changed, new.value, new.null));
}

Datum
osmtalk_calls_after_update(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = osmtalk_row_trigger(fcinfo, "calls", TRIGGER_EVENT_AFTER, TRIGGER_EVENT_UPDATE);
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	HeapTuple row = trigger->tg_newtuple;
	Call old = {0}, new = {0};
	bool decides, corrects, analyzed, announces;
	int nest_level;

	osmtalk_read_row(trigger->tg_trigtuple, desc, columns, COLUMNS, old.value, old.null);
	osmtalk_read_row(row, desc, columns, COLUMNS, new.value, new.null);
	decides = old.null[DECIDED_AT] && !new.null[DECIDED_AT];
	corrects = !old.null[DECIDED_AT] && is_distinct(&new, &old, ANALYSIS); /* late */
	analyzed = old.null[ANALYZED_AT] && !new.null[ANALYZED_AT];
	announces = is_distinct(&new, &old, STATUS) && osmtalk_call_events_wanted();
	if (!decides && !corrects && !analyzed && !announces)
		return PointerGetDatum(NULL);

	nest_level = osmtalk_pin_search_path();
	SPI_connect();
	if (announces)
		osmtalk_record_call_events(row, desc, old.value[STATUS], old.null[STATUS]);
	if (decides)
		osmtalk_decide_lead(row, desc);
	else if (corrects)
		osmtalk_apply_analysis(row, desc);
	if (analyzed)
		osmtalk_record_analysis(row, desc);
	SPI_finish();
	osmtalk_unpin_search_path(nest_level);
	return PointerGetDatum(NULL);
}
