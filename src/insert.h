/*
 * insert.h
 *		Rows into a table of ours, without the executor.
 */
#ifndef OSMTALK_INSERT_H
#define OSMTALK_INSERT_H

#include "nested.h"

/* A table, with all columns that it was made with. */
typedef struct OsmtalkTable
{
	OsmtalkColumn *columns;
	int ncolumns;
	const char *parent;			 /* the partitioned table, NULL if it is no partition */
	const char *const *triggers; /* of the extension's own, on inserts: what they do the caller does; NULL at the end */
} OsmtalkTable;

/*
 * Inserts rows, their defaults included, into the table of that name; false,
 * and nothing was done, if the table is not as the extension made it: then it
 * takes a statement.  The values of one row follow those of the one before.
 * No statement but the caller's sees them before the command counter is
 * incremented.
 */
extern PGDLLEXPORT bool osmtalk_insert(const char *name, OsmtalkTable *as, const Datum *values, const bool *isnull, int nrows);

#endif
