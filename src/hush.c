/*
 * hush.c
 *		Keeps rows that hold secrets out of what the server says.
 *
 * PostgreSQL shows a row that breaks a constraint ("Failing row contains ..."),
 * and, with every message during a COPY, the line that is being read: to the
 * client and in the log.  For tables whose rows hold secrets that must not be,
 * whoever wrote the statement.
 *
 * A trigger before each row checks the table's constraints first, and lets
 * their errors go without the row; and it replaces what COPY adds to messages.
 * The lines that COPY cannot make a row of come before any trigger: for those
 * errors there is the utility hook (makeway.c), where the library is preloaded.
 * Knows nothing of what secrets are for.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "commands/copy.h"
#include "commands/copyfrom_internal.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "hush.h"
#include "nested.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "signing.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

PG_FUNCTION_INFO_V1(osmtalk_guard_secret_row);

/* shorter ones can be found by trying */
#define LEAST_SECRET 16

/* Whether the COPY that runs, if any, says no more of its lines than their numbers. */
static bool copy_is_hushed = false;

/* Of the errors that show a row. */
static void
hide_row(ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_NOT_NULL_VIOLATION || error->sqlerrcode == ERRCODE_CHECK_VIOLATION)
		error->detail = pstrdup("The row is not shown: it may hold a secret.");
}

/* ---- COPY ---- */

/* In place of COPY's own: the line's number, and nothing of the line. */
static void
hushed_copy_context(void *arg)
{
	CopyFromState copy = arg;
	const char *attname = copy->cur_attname;
	bool valid = copy->line_buf_valid;

	copy->cur_attname = NULL;
	copy->line_buf_valid = false;
	CopyFromErrorCallback(copy);
	copy->cur_attname = attname;
	copy->line_buf_valid = valid;
}

/* What COPY put there is its own, and goes with it. */
static void
hush_copy(void)
{
	for (ErrorContextCallback *c = error_context_stack; c != NULL; c = c->previous)
		if (c->callback == CopyFromErrorCallback)
		{
			c->callback = hushed_copy_context;
			copy_is_hushed = true;
		}
}

bool
osmtalk_is_secret_copy(Node *command)
{
	static const char *const tables[] = {"org_settings", "campaigns", "previous_secrets"};
	CopyStmt *copy = (CopyStmt *) command;
	Oid oid;
	char *name;

	if (!IsA(command, CopyStmt) || !copy->is_from || copy->relation == NULL)
		return false;
	oid = RangeVarGetRelid(copy->relation, NoLock, true);
	if (!OidIsValid(oid) || get_rel_namespace(oid) != get_namespace_oid("osmtalk", true))
		return false;
	name = get_rel_name(oid);
	for (int i = 0; i < lengthof(tables); i++)
		if (name != NULL && strcmp(name, tables[i]) == 0)
			return true;
	return false;
}

/*
 * Has the guard's function found before there is a line to show: looking for
 * its library is talked of at the level of debugging (PostgreSQL 18).
 */
static void
load_guard(void)
{
	Oid guard = LookupFuncName(list_make2(makeString("osmtalk"), makeString("guard_secret_row")), 0, NULL, true);
	FmgrInfo loaded;

	if (OidIsValid(guard))
		fmgr_info(guard, &loaded);
}

bool
osmtalk_begin_secret_copy(void)
{
	bool outer = copy_is_hushed;

	load_guard();
	copy_is_hushed = false;
	return outer;
}

void
osmtalk_end_secret_copy(bool outer)
{
	copy_is_hushed = outer;
}

void
osmtalk_rethrow_secret_copy(MemoryContext context, bool outer)
{
	ErrorData *error;
	bool hushed = copy_is_hushed;

	copy_is_hushed = outer;
	if (hushed)
		PG_RE_THROW();
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	error->context = pstrdup("COPY, with a line that is not shown: it may hold a secret");
	hide_row(error);
	ReThrowError(error);
}

/* ---- constraints ---- */

/*
 * What the executor will do after the triggers, and finds nothing then, unless
 * a trigger after this one changes the row.
 */
static void
check_constraints(Relation table, HeapTuple row)
{
	MemoryContext context = CurrentMemoryContext;
	EState *estate = CreateExecutorState();
	ResultRelInfo *result = makeNode(ResultRelInfo);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsHeapTuple);

	InitResultRelInfo(result, table, 0, NULL, 0);
	ExecStoreHeapTuple(row, slot, false);
	PG_TRY();
	{
		ExecConstraints(result, slot, estate);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		hide_row(error);
		ReThrowError(error);
	}
	PG_END_TRY();
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
}

/* ---- secrets that nobody should rely on ---- */

static bool
is_blank(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (strchr(" \t\n\v\f\r", s[i]) == NULL)
			return false;
	return true;
}

/* What is wrong with it, though it is not refused; NULL if nothing, or if it is none. */
static const char *
complaint_about(Datum secret)
{
	size_t len = toast_raw_datum_size(secret) - VARHDRSZ;
	text *plain;
	bool blank;

	if (len == 0)
		return NULL;
	if (len > OSMTALK_LONGEST_SECRET)
		return "the webhook secret is too long: nothing is sent";
	if (len < LEAST_SECRET)
		return "the webhook secret is too short: it can be guessed";
	plain = DatumGetTextPP(secret);
	blank = is_blank(VARDATA_ANY(plain), len);
	if ((Pointer) plain != DatumGetPointer(secret))
	{
		OPENSSL_cleanse(VARDATA_ANY(plain), len);
		pfree(plain);
	}
	return blank ? "the webhook secret is blank: it can be guessed" : NULL;
}

/* An empty one is none: the events are meant to be unsigned. */
static void
remark_on_secret(const TriggerData *trigger, HeapTuple row)
{
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	int number = SPI_fnumber(desc, "webhook_secret");
	bool isnull, old_null = true;
	Datum secret, old = (Datum) 0;
	const char *complaint;

	if (number < 1)
		return;
	secret = heap_getattr(row, number, desc, &isnull);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		old = heap_getattr(trigger->tg_trigtuple, number, desc, &old_null);
	if (isnull || (!old_null && datum_image_eq(secret, old, false, -1)) ||
		(complaint = complaint_about(secret)) == NULL)
		return;

	ereport(WARNING,
			errmsg("%s", complaint),
			errdetail("A secret should have at least %d bytes, and must not have more than %d.", LEAST_SECRET, OSMTALK_LONGEST_SECRET),
			errhint("osmtalk.rotate_webhook_secret() makes one of 32 random bytes."));
}

Datum
osmtalk_guard_secret_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple row;

	if (!CALLED_AS_TRIGGER(fcinfo) || RelationGetNamespace(trigger->tg_relation) != osmtalk_installation() ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("this function can only be called as osmtalk's own trigger"));
	row = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple;
	hush_copy();
	check_constraints(trigger->tg_relation, row);
	remark_on_secret(trigger, row);
	return PointerGetDatum(row);
}
