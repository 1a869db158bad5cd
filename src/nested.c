/*
 * nested.c
 *		Statements that a trigger runs inside the caller's statement, and the
 *		rows that it looks at.
 *
 * A trigger in C costs little; what it runs costs.  So plans are kept for the
 * session and are generic from the first use on: each takes a few rows by key,
 * and many an application has a connection per request.  The plan cache keeps
 * them in step with the tables; the types of parameters it does not, so a plan
 * is made anew for another installation of the extension.  Knows none of the
 * statements.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "fault.h"
#include "nested.h"
#include "nodes/parsenodes.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#define PINNED_SEARCH_PATH "pg_catalog, pg_temp"

/* ---- what is installed ---- */

static Oid installation = InvalidOid;

static void
forget_installation(Datum arg, int cacheid, uint32 hashvalue)
{
	installation = InvalidOid;
}

/*
 * The extension creates its schema, so that each installation, and one that is
 * rolled back, has an oid of its own.
 */
Oid
osmtalk_installation(void)
{
	static bool watching = false;

	if (!OidIsValid(installation))
	{
		if (!watching)
		{
			CacheRegisterSyscacheCallback(NAMESPACEOID, forget_installation, (Datum) 0);
			watching = true;
		}
		installation = get_namespace_oid("osmtalk", false);
	}
	return installation;
}

Oid
osmtalk_type_oid(OsmtalkType *type)
{
	Oid oid;

	if (type->own_name == NULL || type->installation == osmtalk_installation())
		return type->oid;
	oid = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(type->own_name),
						  ObjectIdGetDatum(osmtalk_installation()));
	if (!OidIsValid(oid))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("type \"osmtalk.%s\" does not exist", type->own_name));
	type->oid = oid;
	type->installation = osmtalk_installation();
	return oid;
}

/* ---- statements ---- */

static void
prepare(OsmtalkPlan *p)
{
	Oid argtypes[OSMTALK_MAX_ARGS];
	SPIPlanPtr plan;

	if (p->plan != NULL)
	{
		SPIPlanPtr stale = p->plan;

		p->plan = NULL;
		SPI_freeplan(stale);
	}
	for (int i = 0; i < p->nargs; i++)
		argtypes[i] = osmtalk_type_oid(&p->args[i]);
	plan = SPI_prepare_cursor(p->sql, p->nargs, argtypes, CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", p->sql, SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	p->plan = plan;
	p->installation = osmtalk_installation();
}

uint64
osmtalk_run(OsmtalkPlan *p, const Datum *values, const bool *isnull)
{
	char nulls[OSMTALK_MAX_ARGS];
	int rc;

	osmtalk_fault_at_step(p->sql);
	if (p->plan == NULL || p->installation != osmtalk_installation())
		prepare(p);
	for (int i = 0; i < p->nargs; i++)
		nulls[i] = isnull != NULL && isnull[i] ? 'n' : ' ';
	rc = SPI_execute_plan(p->plan, unconstify(Datum *, values), nulls, false, 0);
	if (rc < 0)
		elog(ERROR, "could not execute \"%s\": %s", p->sql, SPI_result_code_string(rc));
	osmtalk_fault_at_step(p->sql);
	return SPI_processed;
}

Datum
osmtalk_result(int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, isnull);
}

int
osmtalk_pin_search_path(void)
{
	int nest_level;

	/* a trigger that our own statement fired: it is pinned already */
	if (strcmp(namespace_search_path, PINNED_SEARCH_PATH) == 0)
		return 0;
	nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", PINNED_SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return nest_level;
}

void
osmtalk_unpin_search_path(int nest_level)
{
	if (nest_level != 0)
		AtEOXact_GUC(true, nest_level);
}

/* ---- rows ---- */

/*
 * A column's values are taken for what the type says, so a table that somebody
 * has altered must not be misread.
 */
static AttrNumber
find_column(TupleDesc desc, OsmtalkColumn *column)
{
	AttrNumber number = column->last;
	Oid type;

	if (number < 1 || number > desc->natts || TupleDescAttr(desc, number - 1)->attisdropped ||
		strcmp(NameStr(TupleDescAttr(desc, number - 1)->attname), column->name) != 0)
	{
		number = SPI_fnumber(desc, column->name);
		if (number < 1)
			ereport(ERROR,
					errcode(ERRCODE_UNDEFINED_COLUMN),
					errmsg("column \"%s\" does not exist", column->name));
		column->last = number;
	}
	type = TupleDescAttr(desc, number - 1)->atttypid;
	if (type != osmtalk_type_oid(&column->type) &&
		!IsBinaryCoercible(type, osmtalk_type_oid(&column->type)))
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("column \"%s\" has another type than osmtalk gave it", column->name));
	return number;
}

void
osmtalk_read_row(HeapTuple row, TupleDesc desc, OsmtalkColumn *columns, int ncolumns,
				 Datum *values, bool *isnull)
{
	Datum *all = palloc(desc->natts * sizeof(Datum));
	bool *all_null = palloc(desc->natts * sizeof(bool));

	heap_deform_tuple(row, desc, all, all_null);
	for (int i = 0; i < ncolumns; i++)
	{
		AttrNumber number = find_column(desc, &columns[i]);

		values[i] = all[number - 1];
		isnull[i] = all_null[number - 1];
	}
	pfree(all);
	pfree(all_null);
}

/*
 * heap_copy_tuple_as_datum() fetches what is out of line, which may be hundreds
 * of megabytes that nobody is going to look at, unless the row says that it has
 * nothing there.
 */
Datum
osmtalk_row_datum(HeapTuple row, TupleDesc desc)
{
	HeapTuple copy;
	Datum result;

	if (!HeapTupleHasExternal(row))
		return heap_copy_tuple_as_datum(row, desc);
	copy = heap_copytuple(row);
	copy->t_data->t_infomask &= ~HEAP_HASEXTERNAL;
	result = heap_copy_tuple_as_datum(copy, desc);
	heap_freetuple(copy);
	return result;
}

HeapTuple
osmtalk_write_row(HeapTuple row, TupleDesc desc, OsmtalkColumn *columns, int ncolumns,
				  const bool *changed, const Datum *values, const bool *isnull)
{
	int *numbers = palloc(ncolumns * sizeof(int));
	Datum *new_values = palloc(ncolumns * sizeof(Datum));
	bool *new_isnull = palloc(ncolumns * sizeof(bool));
	int n = 0;

	for (int i = 0; i < ncolumns; i++)
		if (changed[i])
		{
			numbers[n] = find_column(desc, &columns[i]);
			new_values[n] = values[i];
			new_isnull[n] = isnull[i];
			n++;
		}
	return n == 0 ? row : heap_modify_tuple_by_cols(row, desc, n, numbers, new_values, new_isnull);
}

HeapTuple
osmtalk_form_row(TupleDesc desc, OsmtalkColumn *columns, int ncolumns, const Datum *values, const bool *isnull)
{
	Datum *all = palloc0(desc->natts * sizeof(Datum));
	bool *all_null = palloc(desc->natts * sizeof(bool));
	HeapTuple row;

	memset(all_null, true, desc->natts * sizeof(bool));
	for (int i = 0; i < ncolumns; i++)
	{
		AttrNumber number = find_column(desc, &columns[i]);

		if (isnull[i] && TupleDescAttr(desc, number - 1)->attnotnull)
			ereport(ERROR,
					errcode(ERRCODE_NOT_NULL_VIOLATION),
					errmsg("null value in column \"%s\"", columns[i].name));
		all[number - 1] = values[i];
		all_null[number - 1] = isnull[i];
	}
	row = heap_form_tuple(desc, all, all_null);
	pfree(all);
	pfree(all_null);
	return row;
}

bool
osmtalk_is_distinct(Oid type, Datum a, bool a_null, Datum b, bool b_null)
{
	int16 len;
	bool byval;

	if (a_null || b_null)
		return a_null != b_null;
	get_typlenbyval(type, &len, &byval);
	if (datum_image_eq(a, b, byval, len))
		return false;
	/* the one of our types that can be equal with other bytes: 1 and 1.0 */
	return type != JSONBOID || !DatumGetBool(DirectFunctionCall2(jsonb_eq, a, b));
}

bool
osmtalk_is_own_table(Relation relation, const char *name)
{
	return RelationGetNamespace(relation) == osmtalk_installation() &&
		strcmp(RelationGetRelationName(relation), name) == 0;
}

TriggerData *
osmtalk_row_trigger(FunctionCallInfo fcinfo, const char *table, TriggerEvent timing, TriggerEvent action)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !osmtalk_is_own_table(trigger->tg_relation, table) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		(trigger->tg_event & TRIGGER_EVENT_TIMINGMASK) != timing ||
		(trigger->tg_event & TRIGGER_EVENT_OPMASK) != action)
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("this function can only be called as osmtalk's own trigger"));
	osmtalk_fault_at_step(trigger->tg_trigger->tgname);
	return trigger;
}
