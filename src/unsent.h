/*
 * unsent.h
 *		Outcomes of which no event tells.
 */
#ifndef OSMTALK_UNSENT_H
#define OSMTALK_UNSENT_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"

/* Texts; a null pointer for a null. */
typedef struct OsmtalkUnsent
{
	const char *type; /* of the event that there is not */
	Datum org_id;
	Datum campaign_id;
	Datum lead_id;
	Datum call_id;
	const char *reason;
} OsmtalkUnsent;

/* Both between SPI_connect() and SPI_finish(). */
extern void osmtalk_record_unsent(const OsmtalkUnsent *outcome);

/* Of a call of a lead in that campaign. */
extern void osmtalk_record_unsent_call(HeapTuple call, TupleDesc desc, Datum campaign_id, const char *reason);

#endif
