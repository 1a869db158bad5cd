/*
 * recipient.h
 *		Who an event is for, as rows say it: URL, headers, secrets.
 */
#ifndef OSMTALK_RECIPIENT_H
#define OSMTALK_RECIPIENT_H

#include "postgres.h"

#include "access/htup.h"
#include "lib/ilist.h"

#include "delivery.h"

/*
 * Columns of a statement that joins the event with its delivery_target(), t;
 * the flag is a parameter, osmtalk.standard_webhooks_headers.
 */
#define OSMTALK_RECIPIENT(event, flag) \
	"t.url, t.secret, t.headers,"      \
	" CASE WHEN " flag " THEN " event ".org_id END, CASE WHEN " flag " THEN t.secret_of END"

/* Reads them into the delivery, from that column on; and wipes what is secret from the row.  They throw. */
extern void osmtalk_read_recipient(HeapTuple tuple, int first, OsmtalkDelivery *d);
extern void osmtalk_wipe_recipient(HeapTuple tuple, int first);

/* For the deliveries of the list, where they are to be signed with them: secrets that were replaced and are valid still. */
extern void osmtalk_read_previous_secrets(dlist_head *list);

/* Wipes and frees what is secret of a delivery. */
extern void osmtalk_forget_secrets(OsmtalkDelivery *d);

#endif
