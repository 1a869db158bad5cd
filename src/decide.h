/*
 * decide.h
 *		Decides leads from their calls.
 */
#ifndef OSMTALK_DECIDE_H
#define OSMTALK_DECIDE_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "nested.h"

/*
 * Whether the agent of a call has analysis configured.
 */
extern bool osmtalk_agent_is_analyzed(Datum agent_id);

/*
 * Decides a call's lead.  The caller has found, under the lead's lock, that
 * this is the lead's latest call, and that it was not decided before.  Between
 * SPI_connect() and SPI_finish().
 */
extern void osmtalk_decide_lead(HeapTuple call, TupleDesc desc);

/* What an analysis changes of a lead that is decided already; sends nothing. */
extern void osmtalk_apply_analysis(HeapTuple call, TupleDesc desc);

#endif
