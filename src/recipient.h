/*
 * recipient.h
 *		Who an event is for, as rows say it: URL, headers, secrets, and how the
 *		endpoint is.
 */
#ifndef OSMTALK_RECIPIENT_H
#define OSMTALK_RECIPIENT_H

#include "postgres.h"

#include "access/htup.h"
#include "lib/ilist.h"

#include "delivery.h"

/*
 * Columns of a statement that reads the event as "e" and joins what follows
 * from it, with the tables that it joins.  The flag is a parameter,
 * osmtalk.standard_webhooks_headers.  While all endpoints are well, which one
 * question per statement tells, nobody asks for the event's.
 */
/* clang-format off */
#define OSMTALK_RECIPIENT(flag) \
	"t.url, t.secret, t.headers, CASE WHEN " flag " THEN t.secret_of END," \
	" e.org_id, t.retry_schedule::pg_catalog.text, h.id, h.standing"
#define OSMTALK_RECIPIENT_TABLES \
	"  LEFT JOIN LATERAL osmtalk.delivery_target(e.type, e.org_id, e.campaign_id) t ON true" \
	"  LEFT JOIN LATERAL (SELECT x.id," \
	"		 osmtalk.endpoint_standing(x.state, x.disabled_by, x.next_probe_at, t.retry_schedule IS NOT NULL) AS standing" \
	"	  FROM osmtalk.endpoints x" \
	"	 WHERE (SELECT EXISTS (SELECT FROM osmtalk.endpoints a" \
	"							WHERE a.consecutive_failures OPERATOR(pg_catalog.>) 0" \
	"							   OR a.state OPERATOR(pg_catalog.<>) 'healthy'::osmtalk.endpoint_state))" \
	"	   AND x.id OPERATOR(pg_catalog.=) osmtalk.endpoint_id(e.org_id, t.url)" \
	"	OFFSET 0) h ON true"
/* clang-format on */

/* Reads them into the delivery, from that column on; and wipes what is secret from the row.  They throw. */
extern void osmtalk_read_recipient(HeapTuple tuple, int first, OsmtalkDelivery *d);
extern void osmtalk_wipe_recipient(HeapTuple tuple, int first);

/* For the deliveries of the list, where they are to be signed with them: secrets that were replaced and are valid still. */
extern void osmtalk_read_previous_secrets(dlist_head *list);

/* Wipes and frees what is secret of a delivery. */
extern void osmtalk_forget_secrets(OsmtalkDelivery *d);

#endif
