/*
 * statements.h
 *		The worker's short transactions and their prepared statements.
 *
 * Knows what a transaction of the worker needs around its statements, not
 * what they are about.  All functions throw.
 */
#ifndef OSMTALK_STATEMENTS_H
#define OSMTALK_STATEMENTS_H

#include "postgres.h"

#include "executor/spi.h"
#include "utils/array.h"

/* SQL that is prepared when it is first used, and kept */
typedef struct OsmtalkStatement
{
	const char *what; /* shown in pg_stat_activity */
	const char *sql;
	int nargs;
	Oid argtypes[9];
	SPIPlanPtr plan;
} OsmtalkStatement;

/* Makes this session's settings those that the worker's statements need, for good. */
extern void osmtalk_pin_settings(void);

/*
 * A transaction with a snapshot, connected to SPI, in which everything is done
 * as the owner of the extension's objects, in a security-restricted context;
 * and its end.  Commit does not heed interrupts once the transaction is
 * committed: what it has claimed must not get lost.
 */
extern void osmtalk_begin(void);
extern void osmtalk_commit(void);

/*
 * In a PG_CATCH: aborts the transaction, forgets the error, and returns a copy
 * of it in that context, which is the current one then.
 */
extern ErrorData *osmtalk_take_error(MemoryContext context);

/* Makes the current transaction's commit wait for the disk, and for a synchronous standby. */
extern void osmtalk_make_durable(void);

/*
 * The result is in SPI_processed and SPI_tuptable.  A select sees what the
 * transaction saw when it began, not what it did itself.
 */
extern void osmtalk_execute(OsmtalkStatement *statement, Datum *values);
extern void osmtalk_select(OsmtalkStatement *statement, Datum *values);
extern SPIPlanPtr osmtalk_plan(OsmtalkStatement *statement);

/* Columns of SPI_tuptable, from 1; text as a copy in that context, NULL for a null. */
extern Datum osmtalk_column(HeapTuple tuple, int number, bool *isnull);
extern char *osmtalk_text_column(HeapTuple tuple, int number, MemoryContext context, size_t *len);

/*
 * A secret, copied likewise, unless it is longer than OSMTALK_LONGEST_SECRET;
 * and what wipes it from a row that has been read.
 */
extern char *osmtalk_secret_column(HeapTuple tuple, int number, MemoryContext context, bool *too_long);
extern void osmtalk_wipe_column(HeapTuple tuple, int number);

/* The parameters, arrays, of a statement whose nth element are the nth row of these values, which follow each other. */
extern void osmtalk_make_arrays(const OsmtalkStatement *statement, const Datum *values, const bool *isnull, int n, Datum *arrays);

extern Datum osmtalk_int8_array(const int64 *elements, int n);
extern Datum osmtalk_int4_array(const int32 *elements, int n);

#endif
