/*
 * delivery.h
 *		One event on its way: what is to be sent, and what came of it.
 *
 * Made by the outbox when it claims a row, sent by http, settled by the
 * outbox.  Belongs to the worker in between.
 */
#ifndef OSMTALK_DELIVERY_H
#define OSMTALK_DELIVERY_H

#include "postgres.h"

#include <netinet/in.h>

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "portability/instr_time.h"

#include "answer.h"
#include "compose.h"
#include "scheduler.h"

/*
 * What was claimed by one row of claims, which goes when nothing of it is
 * left unsettled.
 */
typedef struct OsmtalkBatch
{
	int64 claim_id;
	int unsettled;
} OsmtalkBatch;

/* how much of an answer is kept */
#define OSMTALK_RESPONSE_LEN 1024
#define OSMTALK_DELIVERY_ERROR_LEN 256

/* what is claimed and cannot be sent for so long is claimed again: its URL and secret may change meanwhile */
#define OSMTALK_STALE_MS 1000

/* sockets of one request that are remembered, the last of them */
#define OSMTALK_MOST_OPENED 4

/* the first letters of what endpoint_standing() returns */
#define OSMTALK_STANDING_SEND 's'
#define OSMTALK_STANDING_PROBE 'p'
#define OSMTALK_STANDING_WAIT 'w'

typedef struct OsmtalkDelivery
{
	dlist_node node; /* in the list of those to settle */
	OsmtalkTicket *ticket;
	struct OsmtalkBatch *batch; /* with which it was claimed */
	bool settled;				/* in the current transaction */
	bool touched;				/* somebody has locked its outbox row, or had */

	/* to be sent; strings are the delivery's own */
	int64 endpoint_hash; /* with the id the key of its outbox row */
	int64 outbox_id;
	int32 attempt;
	int16 slot; /* the event's, when it was claimed */
	char *event_id;
	char *url;	  /* NULL: there is none any more */
	char *secret; /* NULL: unsigned; wiped once the signature is made, as are those before it */
	char *previous[OSMTALK_MOST_PREVIOUS];
	int nprevious;
	bool standard;			  /* signed in the form of Standard Webhooks, too */
	char *signer_campaign_id; /* whose secret it is, where that is wanted; NULL: the organisation's */
	char *headers;			  /* of the receiver's own, see compose.h; NULL: none; wiped at the end */
	size_t headers_len;
	char *body; /* NULL: the event was removed */
	size_t body_len;
	char *org_id;			/* NULL: the event was removed */
	char *retry_schedule;	/* interval[], as text; NULL: there is none */
	char *endpoint_id;		/* NULL: all is well with the endpoint */
	char standing;			/* of the endpoint, see OSMTALK_STANDING_ */
	TimestampTz claimed_at; /* URL and secret are those of then */

	/* while it is being sent */
	OsmtalkSignatures signatures;
	bool is_signed; /* they are made, or there are none */
	void *request;
	void *easy;
	bool unsignable;  /* there is a secret, and no signature can be made: it must not be sent */
	bool bad_headers; /* there are some of the receiver's own that cannot be sent, nor the event without them */
	bool https;
	bool proven; /* its endpoint answered last time */
	bool proxied;
	int refusal;					 /* OsmtalkEgress, if not allowed */
	char refused[INET6_ADDRSTRLEN];	 /* the address, if it is that of one */
	bool looks_up;					 /* its target's name, or the proxy's */
	bool starved;					 /* no descriptor was free for its socket, or no thread for its name */
	int opened[OSMTALK_MOST_OPENED]; /* sockets that were made for it, a name may have several addresses */
	int nopened;
	bool stale;			 /* the connection that it was given had been idle for too long, nothing was sent */
	bool fresh;			 /* it must be on a connection of its own making */
	bool posted;		 /* the request was begun */
	int fd;				 /* of its connection, once it is posted; -1: not known */
	int turns;			 /* of libcurl's since then */
	uint64 received;	 /* on the connection, when it was first looked at */
	bool flooded;		 /* more came since than any answer takes */
	OsmtalkHead head;	 /* of the answer, as far as it was read */
	size_t header_bytes; /* read of the answer */
	size_t body_bytes;
	instr_time begun;

	/* the result */
	TimestampTz started_at;
	double duration_ms;
	int http_status;						 /* 0: no complete answer came */
	bool answered;							 /* the endpoint lives: an answer came, whatever its status */
	char error[OSMTALK_DELIVERY_ERROR_LEN];	 /* empty: delivered */
	char detail[OSMTALK_DELIVERY_ERROR_LEN]; /* of the error, for the log alone; empty: there is none */
	char response[OSMTALK_RESPONSE_LEN];
	size_t response_len;
	bool permanent;		/* the attempt was not made, and another would not be either */
	double retry_after; /* seconds that the receiver asks for before another; 0: none */
	bool retried;		/* there will be another attempt */
} OsmtalkDelivery;

#endif
