/*
 * compose.h
 *		A request's headers: all that does not depend on a connection.
 *
 * Plain C: knows neither PostgreSQL nor libcurl, does not throw, keeps no
 * state.  The worker sends what is composed here, and whoever shows a request
 * without sending it has the same.
 */
#ifndef OSMTALK_COMPOSE_H
#define OSMTALK_COMPOSE_H

#include <stdint.h>

#include "signing.h"

#define OSMTALK_USER_AGENT "osmTalk-Webhooks/" OSMTALK_VERSION

/* replaced secrets that a request is signed with besides, at most: as many as rotate_webhook_secret() keeps */
#define OSMTALK_MOST_PREVIOUS 3

/* What is to be sent.  Strings end with a NUL. */
typedef struct OsmtalkMessage
{
	const char *event_id;
	const char *body;
	size_t body_len;
	const char *custom; /* headers of the receiver's own, "Name: value" and a NUL each, one more at the end; NULL: none */

	/* what it is signed with; of no use once it is */
	const char *secret; /* NULL: not at all */
	const char *previous[OSMTALK_MOST_PREVIOUS];
	int nprevious;
	bool standard;	   /* with the headers of Standard Webhooks, too */
	int64_t timestamp; /* of the attempt, seconds since 1970 */
} OsmtalkMessage;

/* Empty strings for none. */
typedef struct OsmtalkSignatures
{
	char classic[OSMTALK_SIGNATURE_LEN + 1];
	/* separated by spaces, a NUL at the end */
	char standard[(1 + OSMTALK_MOST_PREVIOUS) * (OSMTALK_STANDARD_SIGNATURE_LEN + 1)];
	int64_t timestamp; /* that was signed */
} OsmtalkSignatures;

/* Whether the id can be sent in a header. */
extern PGDLLEXPORT bool osmtalk_is_event_id(const char *event_id);

/*
 * Signs the message.  False if that cannot be done with a secret that there is:
 * then it must not be sent.  Without a secret it is true, and there is no
 * signature; nor are there Standard Webhooks' without a secret of its form.
 */
extern PGDLLEXPORT bool osmtalk_sign_message(const OsmtalkMessage *message, OsmtalkSignatures *signatures);

/*
 * Hands over each header, "Name: value", in order, but for those that the HTTP
 * library makes itself: Host, User-Agent, Accept, Content-Length.  False as
 * soon as add is.
 */
typedef bool (*OsmtalkAddHeader)(void *arg, const char *header);
extern PGDLLEXPORT bool osmtalk_compose_headers(const OsmtalkMessage *message, const OsmtalkSignatures *signatures,
												OsmtalkAddHeader add, void *arg);

/*
 * Why a header of that name and value cannot be among the custom ones, without
 * showing it; NULL if it can.
 */
extern PGDLLEXPORT const char *osmtalk_header_complaint(const char *name, size_t name_len,
														const char *value, size_t value_len);

#endif
