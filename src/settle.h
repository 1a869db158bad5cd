/*
 * settle.h
 *		Records what came of deliveries.
 */
#ifndef OSMTALK_SETTLE_H
#define OSMTALK_SETTLE_H

#include "delivery.h"

/*
 * Writes the deliveries' attempts and removes their outbox rows, in the
 * current transaction.  Without wait, rows that another session has locked
 * stay.
 */
extern void osmtalk_settle(dlist_head *deliveries, bool wait);

#endif
