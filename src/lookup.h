/*
 * lookup.h
 *		One row by its primary key.
 */
#ifndef OSMTALK_LOOKUP_H
#define OSMTALK_LOOKUP_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "nested.h"
#include "utils/snapshot.h"

/*
 * The columns of the row of one of the extension's tables, all in the current
 * memory context, and, unless ROW is NULL, the row as osmtalk_row_datum() makes
 * it; false if there is none.
 */
extern bool osmtalk_lookup(const char *table, Datum key, OsmtalkColumn *columns, int ncolumns,
						   Datum *values, bool *isnull, Datum *row);

/*
 * SELECT FOR NO KEY UPDATE of the row with that key whose column, a text, has
 * that value; false if there is none.
 */
extern bool osmtalk_lock(const char *table, Datum key, OsmtalkColumn *key_column,
						 Datum value, OsmtalkColumn *value_column);

/* Whether the snapshot sees any row of that index; true if there is no such index. */
extern bool osmtalk_has_any(const char *table, const char *index, Snapshot snapshot);

#endif
