/*
 * retention.h
 *		When the worker applies the retention.
 */
#ifndef OSMTALK_RETENTION_H
#define OSMTALK_RETENTION_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Does a small part of removing old events, in its own transaction, if it is
 * time for it.  Should that fail, the log says so, and it is tried again later.
 */
extern void osmtalk_apply_retention(TimestampTz now);

/* When the next step is due. */
extern TimestampTz osmtalk_retention_next(TimestampTz now);

#endif
