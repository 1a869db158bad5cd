/*
 * endpoint.h
 *		The endpoint of a URL: scheme, host and port.
 *
 * Events with the same endpoint wait in one queue, and one that is slow or
 * dead is that for all of them.
 */
#ifndef OSMTALK_ENDPOINT_H
#define OSMTALK_ENDPOINT_H

#include "postgres.h"

/* the longest name is that of a host, 253 bytes; what is longer is cut */
#define OSMTALK_ENDPOINT_LEN 300

/*
 * Writes "scheme://host:port", in lower case and with the port that is meant
 * where none is written, and returns its hash.  What is no http or https URL
 * has the endpoint "none" and the hash 0: it fails by itself and has no need
 * of a queue of its own.
 */
extern PGDLLEXPORT int64 osmtalk_endpoint_of(const char *url, size_t len, char name[OSMTALK_ENDPOINT_LEN]);

#endif
