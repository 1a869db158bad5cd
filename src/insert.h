/*
 * insert.h
 *		One row into a table of ours, without the executor.
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
 * Inserts the row, its defaults included, into the table of that name; false,
 * and nothing was done, if the table is not as the extension made it: then it
 * takes a statement.  No statement but the caller's sees the row before the
 * command counter is incremented.
 */
extern bool osmtalk_insert(const char *name, OsmtalkTable *as, const Datum *values, const bool *isnull);

#endif
