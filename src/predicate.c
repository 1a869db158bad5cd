/*
 * predicate.c
 *		Whether a text is one expression of SQL, and no more.
 *
 * What redeliver_matching() puts into a statement of its own must not be able
 * to end that, or its condition, and begin another.  The parser says so, not a
 * search for characters.
 */
#include "postgres.h"

#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(osmtalk_check_predicate);

#define BEFORE_PREDICATE "SELECT "

/* An error's position is one of the predicate, not of the statement that the caller has sent. */
static void
show_position(void *predicate)
{
	int position = geterrposition();

	if (position <= 0)
		return;
	errposition(0);
	internalerrposition(Max(position - (int) strlen(BEFORE_PREDICATE), 1));
	internalerrquery(predicate);
}

static List *
parse(const char *predicate)
{
	char *statement = psprintf(BEFORE_PREDICATE "%s", predicate);
	ErrorContextCallback context = {.callback = show_position, .arg = unconstify(char *, predicate), .previous = error_context_stack};
	List *statements;

	error_context_stack = &context;
	statements = raw_parser(statement, RAW_PARSE_DEFAULT);
	error_context_stack = context.previous;
	return statements;
}

/* Whether it is SELECT and one expression, without a name, and nothing else. */
static bool
is_expression(List *statements)
{
	SelectStmt *select;
	ResTarget *target;

	if (list_length(statements) != 1)
		return false;
	select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;
	if (!IsA(select, SelectStmt) || select->op != SETOP_NONE || list_length(select->targetList) != 1)
		return false;
	if (select->distinctClause != NIL || select->intoClause != NULL || select->fromClause != NIL ||
		select->whereClause != NULL || select->groupClause != NIL || select->havingClause != NULL ||
		select->windowClause != NIL || select->valuesLists != NIL || select->sortClause != NIL ||
		select->limitOffset != NULL || select->limitCount != NULL || select->lockingClause != NIL ||
		select->withClause != NULL)
		return false;
	target = linitial_node(ResTarget, select->targetList);
	return target->name == NULL && target->indirection == NIL;
}

/* check_predicate(predicate) */
Datum
osmtalk_check_predicate(PG_FUNCTION_ARGS)
{
	if (!is_expression(parse(text_to_cstring(PG_GETARG_TEXT_PP(0)))))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the predicate is not one expression"),
				errhint("It is what could follow WHERE in SELECT * FROM osmtalk.deliveries, such as: state = 'failed' AND http_status >= 500"));
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}
