/*
 * rules.c
 *		Evaluates rules, which are SQL functions, from C.
 *
 * A call of a rule is planned as an expression, which inlines the function,
 * and kept: what a trigger evaluates for each row is then a few steps of the
 * executor's, and the rule is still stated once, where users read it.  The plan
 * cache tells when the function was replaced.  Knows none of the rules.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "executor/executor.h"
#include "fault.h"
#include "nested.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

static Node *
call_of(OsmtalkRule *rule)
{
	Oid function;
	List *args = NIL;

	for (int i = 0; i < rule->nargs; i++)
	{
		Param *param = makeNode(Param);

		rule->argtypes[i] = osmtalk_type_oid(&rule->args[i]);
		param->paramkind = PARAM_EXTERN;
		param->paramid = i + 1;
		param->paramtype = rule->argtypes[i];
		param->paramtypmod = -1;
		param->paramcollid = get_typcollation(rule->argtypes[i]);
		param->location = -1;
		args = lappend(args, param);
	}
	function = LookupFuncName(list_make2(makeString(pstrdup("osmtalk")), makeString(pstrdup(rule->function))),
							  rule->nargs, rule->argtypes, false);
	return (Node *) makeFuncExpr(function, get_func_rettype(function), args,
								 get_typcollation(get_func_rettype(function)), DEFAULT_COLLATION_OID,
								 COERCE_EXPLICIT_CALL);
}

/*
 * Parts are taken away before they are made anew, each noted once it is
 * complete, so that an error in between leaves nothing that looks usable.
 */
static void
prepare(OsmtalkRule *rule, Oid installation)
{
	Node *call;
	MemoryContext old;

	rule->state = NULL;
	if (rule->planned != NULL)
	{
		CachedExpression *stale = rule->planned;

		rule->planned = NULL;
		FreeCachedExpression(stale);
	}
	if (rule->memory != NULL)
	{
		MemoryContext stale = rule->memory;

		rule->memory = NULL;
		MemoryContextDelete(stale);
	}

	call = call_of(rule);
	get_typlenbyval(exprType(call), &rule->result_len, &rule->result_byval);
	rule->planned = GetCachedExpression(call);
	rule->memory = AllocSetContextCreate(TopMemoryContext, "osmtalk rule", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(rule->memory);
	rule->context = CreateStandaloneExprContext();
	rule->state = ExecInitExpr((Expr *) rule->planned->expr, NULL);
	MemoryContextSwitchTo(old);
	rule->installation = installation;
}

Datum
osmtalk_rule(OsmtalkRule *rule, const Datum *values, const bool *isnulls, bool *isnull)
{
	Oid installation = osmtalk_installation();
	ParamListInfo params;
	Datum result;

	osmtalk_fault_at_step(rule->function);
	if (rule->state == NULL || rule->installation != installation || !rule->planned->is_valid)
		prepare(rule, installation);

	params = makeParamList(rule->nargs);
	for (int i = 0; i < rule->nargs; i++)
	{
		params->params[i].value = values[i];
		params->params[i].isnull = isnulls != NULL && isnulls[i];
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = rule->argtypes[i];
	}
	rule->context->ecxt_param_list_info = params;
	result = ExecEvalExprSwitchContext(rule->state, rule->context, isnull);
	if (!*isnull)
		result = datumCopy(result, rule->result_byval, rule->result_len);
	ResetExprContext(rule->context);
	pfree(params);
	return result;
}

bool
osmtalk_rule_holds(OsmtalkRule *rule, const Datum *values, const bool *isnulls)
{
	bool isnull;
	Datum result = osmtalk_rule(rule, values, isnulls, &isnull);

	return !isnull && DatumGetBool(result);
}
