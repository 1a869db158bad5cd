/*
 * subscriptions.c
 *		Whether anybody wants events of calls.
 *
 * They are for those who ask for them, and most installations have nobody who
 * does.  So a session remembers that there is none, until somebody changes a
 * row's webhook_events: a trigger then has the table's relation cache entry
 * invalidated, which every session hears of when that commits, before it looks
 * at anything again.  Knows nothing of calls or events.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "lookup.h"
#include "nested.h"
#include "subscriptions.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(osmtalk_subscriptions_changed);

/* partial indexes, see sql/tables.sql */
static const struct
{
	const char *table;
	const char *index;
} subscribers[] = {
	{"org_settings", "org_settings_call_events_idx"},
	{"campaigns", "campaigns_call_events_idx"}};

static bool known = false;
static bool wanted;
static Oid known_of; /* installation */
static Oid watched[lengthof(subscribers)];

/* Called for any table of which the cache is out of date, with InvalidOid for all. */
static void
forget(Datum arg, Oid relation)
{
	for (int i = 0; i < lengthof(watched); i++)
		if (relation == InvalidOid || relation == watched[i])
			known = false;
}

/*
 * By what is committed now, not by what the transaction sees: what is found is
 * for transactions to come, too.  A change that comes in between is heard of,
 * and has known reset, so that is set first.
 */
static void
look(void)
{
	static bool watching = false;
	bool found = false;

	if (!watching)
	{
		CacheRegisterRelcacheCallback(forget, (Datum) 0);
		watching = true;
	}
	known_of = osmtalk_installation();
	for (int i = 0; i < lengthof(subscribers); i++)
		watched[i] = get_relname_relid(subscribers[i].table, known_of);
	known = wanted = true;
	PushActiveSnapshot(GetLatestSnapshot());
	for (int i = 0; i < lengthof(subscribers) && !found; i++)
		found = osmtalk_has_any(subscribers[i].table, subscribers[i].index, GetActiveSnapshot());
	PopActiveSnapshot();
	wanted = found;
}

bool
osmtalk_call_events_wanted(void)
{
	if (!known || known_of != osmtalk_installation())
		look();
	return wanted;
}

static bool
is_own(TriggerData *trigger)
{
	for (int i = 0; i < lengthof(subscribers); i++)
		if (osmtalk_is_own_table(trigger->tg_relation, subscribers[i].table))
			return TRIGGER_FIRED_FOR_ROW(trigger->tg_event) && TRIGGER_FIRED_AFTER(trigger->tg_event);
	return false;
}

Datum
osmtalk_subscriptions_changed(PG_FUNCTION_ARGS)
{
	static OsmtalkColumn events = {"webhook_events", OSMTALK_TEXT_ARRAY, 0};
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc desc;
	Datum value, old_value = (Datum) 0;
	bool isnull, old_null = true;

	if (!CALLED_AS_TRIGGER(fcinfo) || !is_own(trigger))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("this function can only be called as osmtalk's own trigger"));
	desc = RelationGetDescr(trigger->tg_relation);
	osmtalk_read_row(trigger->tg_trigtuple, desc, &events, 1, &value, &isnull);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		osmtalk_read_row(trigger->tg_newtuple, desc, &events, 1, &old_value, &old_null);
	/* by its bytes, of which those out of line are not the same after an update: once too often does no harm */
	if (osmtalk_is_distinct(TEXTARRAYOID, value, isnull, old_value, old_null))
		CacheInvalidateRelcache(trigger->tg_relation);
	return PointerGetDatum(NULL);
}
