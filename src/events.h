/*
 * events.h
 *		The events of calls and leads.
 */
#ifndef OSMTALK_EVENTS_H
#define OSMTALK_EVENTS_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"

/* Both between SPI_connect() and SPI_finish(). */

/* Writes the event of a call's first analysis, if its agent has analysis configured and the event is wanted. */
extern void osmtalk_record_analysis(HeapTuple call, TupleDesc desc);

/*
 * Writes call.started, and call.completed or call.failed, as far as the change
 * of the call's status is one and they are wanted; a null status before is that
 * of a call that was not there.  For nothing where osmtalk_call_events_wanted()
 * is false.
 */
extern void osmtalk_record_call_events(HeapTuple call, TupleDesc desc, Datum status_before, bool before_null);

#endif
