/*
 * retention.h
 *		When the worker applies the retention, and what of an error in it.
 */
#ifndef OSMTALK_RETENTION_H
#define OSMTALK_RETENTION_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Does a small part of removing old events, in its own transaction, if it is
 * time for it.  Throws.
 */
extern void osmtalk_retention_step(TimestampTz now);

/* To be called, once the transaction is aborted, when a step has thrown; true if that is news. */
extern bool osmtalk_retention_failed(TimestampTz now);

/* When the next step is due. */
extern TimestampTz osmtalk_retention_next(TimestampTz now);

#endif
