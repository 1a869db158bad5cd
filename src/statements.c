/*
 * statements.c
 *		The worker's short transactions and their prepared statements.
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <signal.h>

#include "access/detoast.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fault.h"
#include "miscadmin.h"
#include "objects.h"
#include "pgstat.h"
#include "replication/syncrep.h"
#include "signing.h"
#include "statements.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/*
 * What an administrator sets for the database, the role or the server is
 * meant for sessions; these decide whether the worker works.
 */
void
osmtalk_pin_settings(void)
{
	static const struct
	{
		const char *name;
		const char *value;
	} pinned[] = {
		{"role", "none"},
		{"search_path", "pg_catalog, pg_temp"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
#if PG_VERSION_NUM >= 170000
		{"transaction_timeout", "0"},
#endif
		/* short: results wait in memory meanwhile, and requests want to be served */
		{"lock_timeout", "500ms"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
		{"row_security", "off"},
		{"client_min_messages", "error"},
		{"session_replication_role", "origin"},
		/*
		 * Each statement takes a few rows by index.  Plans are made once, when
		 * the tables may be empty: what looks cheap then is ruinous later.
		 */
		{"jit", "off"},
		{"enable_seqscan", "off"},
		{"enable_bitmapscan", "off"},
		{"enable_sort", "off"},
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		/* it would keep bodies that nobody asks for twice, and copies of secrets */
		{"enable_memoize", "off"},
		{"plan_cache_mode", "force_generic_plan"},
	};

	for (int i = 0; i < lengthof(pinned); i++)
		SetConfigOption(pinned[i].name, pinned[i].value, PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * The claim must be durable before anything is sent: on the standby, too,
 * where there is a synchronous one.  What the configuration asks for beyond
 * that stands.
 */
void
osmtalk_make_durable(void)
{
	bool standby = SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0';
	int least = standby ? SYNCHRONOUS_COMMIT_REMOTE_FLUSH : SYNCHRONOUS_COMMIT_LOCAL_FLUSH;

	if (synchronous_commit < least)
		(void) set_config_option("synchronous_commit", standby ? "on" : "local",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/* who this process is between transactions */
static Oid session_user = InvalidOid;
static int session_context = 0;

/*
 * A worker is connected as a superuser, and does nothing as one: what it
 * executes may reach what others have made, such as triggers on the tables.
 * An abort takes this back by itself.
 */
static void
become_owner(void)
{
	Oid owner = osmtalk_objects_owner();

	GetUserIdAndSecContext(&session_user, &session_context);
	/* without a schema there is nothing to execute; see osmtalk_plan() */
	if (OidIsValid(owner))
		SetUserIdAndSecContext(owner, session_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

void
osmtalk_begin(void)
{
	pqsignal(SIGINT, StatementCancelHandler); /* see osmtalk_commit() */
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	become_owner();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/*
 * A cancel is for statements: between transactions there is nothing to cancel,
 * and during a commit it would end the wait for a synchronous standby with a
 * mere warning, so that a claim would look durable that is not.  (A
 * termination does that too; it is for the caller to heed interrupts before
 * it acts on what was committed.)
 */
static void
ignore_cancels(void)
{
	pqsignal(SIGINT, SIG_IGN);
	QueryCancelPending = false;
}

void
osmtalk_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	ignore_cancels();
	CommitTransactionCommand();
	/* not sooner: a commit runs what was put off until then */
	SetUserIdAndSecContext(session_user, session_context);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

ErrorData *
osmtalk_take_error(MemoryContext context)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	HOLD_INTERRUPTS();
	ignore_cancels();
	AbortOutOfAnyTransaction();
	FlushErrorState();
	RESUME_INTERRUPTS();
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(context);
	return error;
}

SPIPlanPtr
osmtalk_plan(OsmtalkStatement *s)
{
	pgstat_report_activity(STATE_RUNNING, s->what);
	if (superuser())
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("a worker executes nothing as a superuser"),
				errhint("Give the schema osmtalk to a role that is none: ALTER SCHEMA osmtalk OWNER TO osmtalk_owner."));
	if (s->plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(s->sql, s->nargs, s->argtypes);

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", s->what, SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		s->plan = plan;
	}
	return s->plan;
}

static void
execute(OsmtalkStatement *s, Datum *values, bool read_only)
{
	int rc;

	osmtalk_fault_at_statement(s->sql);
	rc = SPI_execute_plan(osmtalk_plan(s), values, NULL, read_only, 0);

	if (rc < 0)
		elog(ERROR, "could not execute \"%s\": %s", s->what, SPI_result_code_string(rc));
}

void
osmtalk_execute(OsmtalkStatement *s, Datum *values)
{
	execute(s, values, false);
}

void
osmtalk_select(OsmtalkStatement *s, Datum *values)
{
	execute(s, values, true);
}

Datum
osmtalk_column(HeapTuple tuple, int number, bool *isnull)
{
	return SPI_getbinval(tuple, SPI_tuptable->tupdesc, number, isnull);
}

/* A text column, copied; NULL for a null. */
char *
osmtalk_text_column(HeapTuple tuple, int number, MemoryContext context, size_t *len)
{
	bool isnull;
	Datum value = osmtalk_column(tuple, number, &isnull);
	struct varlena *detoasted;
	char *copy;
	size_t n;

	if (isnull)
		return NULL;
	detoasted = PG_DETOAST_DATUM_PACKED(value);
	n = VARSIZE_ANY_EXHDR(detoasted);
	copy = MemoryContextAlloc(context, n + 1);
	memcpy(copy, VARDATA_ANY(detoasted), n);
	copy[n] = '\0';
	if (len != NULL)
		*len = n;
	if ((Pointer) detoasted != DatumGetPointer(value))
		pfree(detoasted);
	return copy;
}

char *
osmtalk_secret_column(HeapTuple tuple, int number, MemoryContext context, bool *too_long)
{
	bool isnull;
	Datum value = osmtalk_column(tuple, number, &isnull);
	struct varlena *detoasted;
	char *copy;
	size_t n;

	/* an entry of the TOAST table says how long it is before it is fetched */
	*too_long = !isnull && toast_raw_datum_size(value) - VARHDRSZ > OSMTALK_LONGEST_SECRET;
	if (isnull || *too_long)
		return NULL;
	detoasted = PG_DETOAST_DATUM_PACKED(value);
	n = VARSIZE_ANY_EXHDR(detoasted);
	copy = MemoryContextAlloc(context, n + 1);
	memcpy(copy, VARDATA_ANY(detoasted), n);
	copy[n] = '\0';
	if ((Pointer) detoasted != DatumGetPointer(value))
	{
		OPENSSL_cleanse(VARDATA_ANY(detoasted), n);
		pfree(detoasted);
	}
	return copy;
}

/* The rows that a statement has returned are this process's own: they may be written to. */
void
osmtalk_wipe_column(HeapTuple tuple, int number)
{
	bool isnull;
	Datum value = osmtalk_column(tuple, number, &isnull);
	struct varlena *v = (struct varlena *) DatumGetPointer(value);

	if (isnull || VARATT_IS_EXTERNAL(v))
		return; /* none of it is here */
	if (VARATT_IS_SHORT(v))
		OPENSSL_cleanse(VARDATA_SHORT(v), VARSIZE_SHORT(v) - VARHDRSZ_SHORT);
	else
		OPENSSL_cleanse((char *) v + VARHDRSZ, VARSIZE(v) - VARHDRSZ);
}

void
osmtalk_make_arrays(const OsmtalkStatement *statement, const Datum *values, const bool *isnull, int n, Datum *arrays)
{
	Datum *column = palloc(n * sizeof(Datum));
	bool *column_null = palloc(n * sizeof(bool));

	for (int i = 0; i < statement->nargs; i++)
	{
		Oid type = get_element_type(statement->argtypes[i]);
		int16 len;
		bool byval;
		char align;
		int dims[1] = {n};
		int lbs[1] = {1};

		for (int row = 0; row < n; row++)
		{
			column[row] = values[row * statement->nargs + i];
			column_null[row] = isnull[row * statement->nargs + i];
		}
		get_typlenbyvalalign(type, &len, &byval, &align);
		arrays[i] = PointerGetDatum(construct_md_array(column, column_null, 1, dims, lbs, type, len, byval, align));
	}
}

Datum
osmtalk_int8_array(const int64 *elements, int n)
{
	Datum *values = palloc(Max(n, 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
		values[i] = Int64GetDatum(elements[i]);
	return PointerGetDatum(construct_array(values, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

Datum
osmtalk_int4_array(const int32 *elements, int n)
{
	Datum *values = palloc(Max(n, 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
		values[i] = Int32GetDatum(elements[i]);
	return PointerGetDatum(construct_array(values, n, INT4OID, 4, true, TYPALIGN_INT));
}
