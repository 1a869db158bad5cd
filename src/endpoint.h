/*
 * endpoint.h
 *		The endpoint of a URL: scheme, host and port.
 *
 * Events with the same endpoint wait in one queue, and one that is slow or
 * dead is that for all of them.
 *
 * Plain C, but for the hash, which is PostgreSQL's (functions.c).
 */
#ifndef OSMTALK_ENDPOINT_H
#define OSMTALK_ENDPOINT_H

#include <stddef.h>
#include <stdint.h>

/* exported from the preloaded library to the worker's */
#ifndef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#endif

/* events that wait for their time or their endpoint are in a queue of their own, see sql/retries.sql */
#define OSMTALK_WAITING_QUEUE 1

/* the longest name is that of a host, 253 bytes; what is longer is cut */
#define OSMTALK_ENDPOINT_LEN 300

/*
 * Writes "scheme://host:port", in lower case and with the port that is meant
 * where none is written, and returns its length.  What is no http or https URL
 * has the endpoint "none" and the length 0.
 */
extern PGDLLEXPORT size_t osmtalk_endpoint_name(const char *url, size_t len, char name[OSMTALK_ENDPOINT_LEN]);

/*
 * The same, and returns the hash of the name, never OSMTALK_WAITING_QUEUE; 0 for "none": it fails by itself
 * and has no need of a queue of its own.
 */
extern PGDLLEXPORT int64_t osmtalk_endpoint_of(const char *url, size_t len, char name[OSMTALK_ENDPOINT_LEN]);

/* The id of an organisation's URL in osmtalk.endpoints; with its NUL.  Throws. */
#define OSMTALK_ENDPOINT_ID_LEN 28
extern PGDLLEXPORT void osmtalk_endpoint_id_of(const char *org_id, size_t org_id_len, const char *url, size_t url_len,
											   char id[OSMTALK_ENDPOINT_ID_LEN]);

#endif
