/*
 * makeway.c
 *		Commands that osmtalk's processes must make way for, or hear of.
 *
 * DROP, RENAME, SET TABLESPACE and TEMPLATE fail after five seconds if
 * somebody is connected to the database, and a worker always is.  So before
 * such a command runs, the worker is asked to leave, and until its transaction
 * is over the launcher starts no other.  Only for those who may run the command:
 * anybody else could stop a database's deliveries at will.
 *
 * A COPY of rows that hold secrets is among them for what is said of it (hush.c).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "hush.h"
#include "makeway.h"
#include "wakeup.h"

static ProcessUtility_hook_type prev_utility_hook = NULL;

static void utility_hook(PlannedStmt *pstmt, const char *query, bool read_only_tree,
						 ProcessUtilityContext context, ParamListInfo params,
						 QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc);

void
osmtalk_install_utility_hook(void)
{
	prev_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;
}

static bool
owns_database(Oid database)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, GetUserId());
#else
	return pg_database_ownercheck(database, GetUserId());
#endif
}

/* Whether the user may copy the database: CREATEDB, and its owner unless it is a template. */
static bool
may_copy(Oid database)
{
	HeapTuple tuple;
	bool may_create = false;
	bool is_template = false;

	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		may_create = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		is_template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return superuser() || (may_create && (is_template || owns_database(database)));
}

/*
 * The database that the command needs free of connections; InvalidOid if
 * there is none, or if the command will fail anyway: the requests that a
 * worker leaves behind are made again, so it does not leave for nothing.
 */
static Oid
database_to_free(Node *command, ProcessUtilityContext context)
{
	const char *name = NULL;
	const char *new_name = NULL;
	bool own_transaction = true; /* the command cannot run inside a transaction block */
	ListCell *lc;
	Oid database;

	if (IsA(command, DropdbStmt))
		name = ((DropdbStmt *) command)->dbname;
	else if (IsA(command, RenameStmt) && ((RenameStmt *) command)->renameType == OBJECT_DATABASE)
	{
		name = ((RenameStmt *) command)->subname;
		new_name = ((RenameStmt *) command)->newname;
		own_transaction = false;
	}
	else if (IsA(command, AlterDatabaseStmt))
	{
		foreach(lc, ((AlterDatabaseStmt *) command)->options)
			if (strcmp(((DefElem *) lfirst(lc))->defname, "tablespace") == 0)
				name = ((AlterDatabaseStmt *) command)->dbname;
	}
	else if (IsA(command, CreatedbStmt))
	{
		new_name = ((CreatedbStmt *) command)->dbname;
		foreach(lc, ((CreatedbStmt *) command)->options)
			if (strcmp(((DefElem *) lfirst(lc))->defname, "template") == 0 &&
				((DefElem *) lfirst(lc))->arg != NULL)
				name = defGetString(lfirst(lc));
	}

	if (name == NULL ||
		(own_transaction && (context != PROCESS_UTILITY_TOPLEVEL || IsTransactionBlock())) ||
		(new_name != NULL && OidIsValid(get_database_oid(new_name, true))))
		return InvalidOid;
	database = get_database_oid(name, true);
	if (!OidIsValid(database) || database == MyDatabaseId ||
		!(IsA(command, CreatedbStmt) ? may_copy(database) : owns_database(database)))
		return InvalidOid;
	return database;
}

static void
run_command(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params,
			QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (prev_utility_hook)
		prev_utility_hook(pstmt, query, read_only_tree, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest, qc);
}

static void
utility_hook(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Node *command = pstmt->utilityStmt;
	MemoryContext caller = CurrentMemoryContext;
	bool outer;
	Oid database;

	switch (nodeTag(command))
	{
		case T_DropdbStmt:
		case T_RenameStmt:
		case T_AlterDatabaseStmt:
		case T_CreatedbStmt:
			database = database_to_free(command, context);
			/* ALTER DATABASE: it may begin or cease to allow connections */
			if (!IsA(command, RenameStmt))
				osmtalk_wake_at_commit(OSMTALK_WAKE_LAUNCHER);
			if (OidIsValid(database))
				osmtalk_hold_database(database);
			break;

		case T_DropStmt:
			/* if it is ours, the worker sees that it is gone, and leaves */
			if (((DropStmt *) command)->removeType == OBJECT_EXTENSION)
				osmtalk_wake_at_commit(OSMTALK_WAKE_LOOK);
			break;

		case T_AlterExtensionStmt:
			/* it may be of a version now that a worker can serve */
			if (strcmp(((AlterExtensionStmt *) command)->extname, "osmtalk") == 0)
				osmtalk_wake_at_commit(OSMTALK_WAKE_UPDATE | OSMTALK_WAKE_RELOAD);
			break;

		case T_TransactionStmt:
			/* what it enqueued, or paused, became visible just now, in another session's name */
			if (((TransactionStmt *) command)->kind == TRANS_STMT_COMMIT_PREPARED)
				osmtalk_wake_at_commit(OSMTALK_WAKE_LOOK | OSMTALK_WAKE_PAUSE);
			break;

		default:
			break;
	}

	if (!osmtalk_is_secret_copy(command))
	{
		run_command(pstmt, query, read_only_tree, context, params, env, dest, qc);
		return;
	}
	outer = osmtalk_begin_secret_copy();
	PG_TRY();
	{
		run_command(pstmt, query, read_only_tree, context, params, env, dest, qc);
	}
	PG_CATCH();
	{
		osmtalk_rethrow_secret_copy(caller, outer);
	}
	PG_END_TRY();
	osmtalk_end_secret_copy(outer);
}
