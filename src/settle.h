/*
 * settle.h
 *		Records what came of deliveries: attempt rows in, outbox rows out.
 */
#ifndef OSMTALK_SETTLE_H
#define OSMTALK_SETTLE_H

#include "postgres.h"

#include "lib/ilist.h"

#include "delivery.h"

typedef enum OsmtalkCare
{
	OSMTALK_SETTLE_ALL,	 /* fails if a row is locked, or the number of an attempt taken */
	OSMTALK_SETTLE_FREE, /* leaves those whose outbox row is locked */
	OSMTALK_SETTLE_LAST	 /* of those, too, the attempt is recorded: nobody will try again */
} OsmtalkCare;

/*
 * Settles these deliveries in the current transaction, and sets "settled" in
 * those that it did.  Throws.
 */
extern void osmtalk_settle(dlist_head *results, OsmtalkCare care);

/* Locks the outbox rows of these deliveries, but for those that another session has locked. */
extern void osmtalk_lock_rows(OsmtalkDelivery **deliveries, int n, bool *locked);

/* Removes these rows of claims. */
extern void osmtalk_settle_claims(Datum ids);

/* Keys of outbox rows as parameters $1 and $2 of a statement, and there as a table with their numbers from 1. */
#define OSMTALK_KEYS "ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY k (endpoint_hash, id, number)"
extern void osmtalk_make_keys(OsmtalkDelivery **deliveries, int n, Datum keys[2]);

#endif
