/*
 * nested.h
 *		What the triggers written in C share: saved plans, rules, columns.
 */
#ifndef OSMTALK_NESTED_H
#define OSMTALK_NESTED_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "nodes/execnodes.h"
#include "utils/plancache.h"
#include "utils/relcache.h"

#define OSMTALK_MAX_ARGS 8

/* as the type of a parameter: a type of the extension's own */
#define OSMTALK_CALLS_ROW "calls"
#define OSMTALK_LEADS_ROW "leads"

/* A type that is the same in every database, or the name of one of ours. */
typedef struct OsmtalkType
{
	Oid oid;
	const char *own_name;
	Oid installation; /* for which oid is that of own_name */
} OsmtalkType;

#define OSMTALK_TEXT              \
	{                             \
		TEXTOID, NULL, InvalidOid \
	}
#define OSMTALK_TEXT_ARRAY             \
	{                                  \
		TEXTARRAYOID, NULL, InvalidOid \
	}
#define OSMTALK_JSONB              \
	{                              \
		JSONBOID, NULL, InvalidOid \
	}
#define OSMTALK_BOOL              \
	{                             \
		BOOLOID, NULL, InvalidOid \
	}
#define OSMTALK_INT4              \
	{                             \
		INT4OID, NULL, InvalidOid \
	}
#define OSMTALK_INT2              \
	{                             \
		INT2OID, NULL, InvalidOid \
	}
#define OSMTALK_INT8              \
	{                             \
		INT8OID, NULL, InvalidOid \
	}
#define OSMTALK_XID8              \
	{                             \
		XID8OID, NULL, InvalidOid \
	}
#define OSMTALK_FLOAT8              \
	{                               \
		FLOAT8OID, NULL, InvalidOid \
	}
#define OSMTALK_TIME                     \
	{                                    \
		TIMESTAMPTZOID, NULL, InvalidOid \
	}
#define OSMTALK_INTERVAL              \
	{                                 \
		INTERVALOID, NULL, InvalidOid \
	}
#define OSMTALK_OWN(name) \
	{                     \
		InvalidOid, name  \
	}

/*
 * A nested statement, prepared once per session and installation of the
 * extension.  It runs under whatever search path the session has: every name
 * in it is qualified, operators included, and nothing in it looks one up by
 * itself, as IN, NULLIF and USING do.
 */
typedef struct OsmtalkPlan
{
	const char *sql;
	int nargs;
	OsmtalkType args[OSMTALK_MAX_ARGS];
	/* the rest is nested.c's */
	SPIPlanPtr plan;
	Oid installation;
} OsmtalkPlan;

/* Between SPI_connect() and SPI_finish(); returns how many rows. */
extern uint64 osmtalk_run(OsmtalkPlan *plan, const Datum *values, const bool *isnull);
/* A column of the only row that the last osmtalk_run() returned. */
extern Datum osmtalk_result(int column, bool *isnull);

/*
 * A rule: a function in the schema osmtalk, evaluated as a planned expression,
 * into which a rule written in SQL has been inlined.
 */
typedef struct OsmtalkRule
{
	const char *function;
	int nargs;
	OsmtalkType args[OSMTALK_MAX_ARGS];
	/* the rest is rules.c's */
	Oid installation;
	CachedExpression *planned;
	ExprState *state;
	ExprContext *context;
	MemoryContext memory;
	Oid argtypes[OSMTALK_MAX_ARGS];
	int16 result_len;
	bool result_byval;
} OsmtalkRule;

/* The result is in the current memory context. */
extern Datum osmtalk_rule(OsmtalkRule *rule, const Datum *values, const bool *isnulls, bool *isnull);
/* For a rule that is true, false or null, which is false. */
extern bool osmtalk_rule_holds(OsmtalkRule *rule, const Datum *values, const bool *isnulls);

/* Which CREATE EXTENSION this is about: what is kept of another is stale. */
extern Oid osmtalk_installation(void);
extern Oid osmtalk_type_oid(OsmtalkType *type);
extern bool osmtalk_is_own_table(Relation relation, const char *name);

/*
 * While user code may run that our statements fire: the search path that
 * functions with the owner's rights have.  An error restores it by itself.
 */
extern int osmtalk_pin_search_path(void);
extern void osmtalk_unpin_search_path(int nest_level);

/* A column, found by name: tables gain columns. */
typedef struct OsmtalkColumn
{
	const char *name;
	OsmtalkType type;
	AttrNumber last; /* where it was last */
} OsmtalkColumn;

/* Columns of a row, in the order of the columns asked for. */
extern void osmtalk_read_row(HeapTuple row, TupleDesc desc, OsmtalkColumn *columns, int ncolumns,
							 Datum *values, bool *isnull);
/* A row of these columns; others are null. */
extern HeapTuple osmtalk_form_row(TupleDesc desc, OsmtalkColumn *columns, int ncolumns,
								  const Datum *values, const bool *isnull);
/*
 * The row as a composite value that is read at once and not kept: what is out
 * of line stays there, so that it is fetched only if it is wanted.
 */
extern Datum osmtalk_row_datum(HeapTuple row, TupleDesc desc);
/* The row with those columns that CHANGED names set. */
extern HeapTuple osmtalk_write_row(HeapTuple row, TupleDesc desc, OsmtalkColumn *columns, int ncolumns,
								   const bool *changed, const Datum *values, const bool *isnull);
/* IS DISTINCT FROM */
extern bool osmtalk_is_distinct(Oid type, Datum a, bool a_null, Datum b, bool b_null);

/*
 * The trigger's data, if it is one for each row of that table of ours, at that
 * time, of an update or insert.  Another's is refused: this runs with the
 * owner's rights.
 */
extern TriggerData *osmtalk_row_trigger(FunctionCallInfo fcinfo, const char *table, TriggerEvent timing, TriggerEvent action);

#endif
