/*
 * compose.h
 *		The headers of a request.
 *
 * Plain C: knows nothing of PostgreSQL or libcurl, does not throw, keeps no
 * state.
 */
#ifndef OSMTALK_COMPOSE_H
#define OSMTALK_COMPOSE_H

#include <stdbool.h>

/* exported from the preloaded library to the worker's */
#ifndef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#endif

#define OSMTALK_USER_AGENT "osmTalk-Webhooks/" OSMTALK_VERSION

/*
 * Takes a header, "Name: value", which is the caller's own and is to be copied.
 * "Name:" keeps out one that libcurl and curl would add by themselves.  False if
 * it could not be taken.
 */
typedef bool (*OsmtalkTakeHeader)(void *taker, const char *header);

/*
 * Has each header taken that a request of this event has beyond Host, Accept and
 * Content-Length, which libcurl makes.  A NULL signature is none.  Returns NULL,
 * or why there can be no such request.
 */
extern PGDLLEXPORT const char *osmtalk_headers(const char *event_id, const char *signature,
											   OsmtalkTakeHeader take, void *taker);

#endif
