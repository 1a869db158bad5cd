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

#include "signing.h"

#define OSMTALK_USER_AGENT "osmTalk-Webhooks/" OSMTALK_VERSION

/* What is to be sent.  Strings end with a NUL. */
typedef struct OsmtalkMessage
{
	const char *event_id;
	const char *body;
	size_t body_len;

	/* what it is signed with; of no use once it is */
	const char *secret; /* NULL: not at all */
} OsmtalkMessage;

/* Empty strings for none. */
typedef struct OsmtalkSignatures
{
	char classic[OSMTALK_SIGNATURE_LEN + 1];
} OsmtalkSignatures;

/* Whether the id can be sent in a header. */
extern PGDLLEXPORT bool osmtalk_is_event_id(const char *event_id);

/*
 * Signs the message.  False if that cannot be done with a secret that there is:
 * then it must not be sent.  Without a secret it is true, and there is no
 * signature.
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

#endif
