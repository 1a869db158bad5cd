/*
 * url.h
 *		Which URLs may be written down, to be called later.
 *
 * Plain C: knows nothing of PostgreSQL or libcurl.
 */
#ifndef OSMTALK_URL_H
#define OSMTALK_URL_H

#include <stdbool.h>
#include <stddef.h>

#define OSMTALK_URL_LEN 2048

/* exported from the preloaded library to the worker's */
#ifndef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#endif

/*
 * Whether events can be posted to this URL: http or https, a host name in
 * ASCII or an address, no user and password, a port from 1 to 65535, nothing
 * but printable ASCII without backslashes, at most OSMTALK_URL_LEN bytes.
 */
extern PGDLLEXPORT bool osmtalk_url_is_valid(const char *url, size_t len);

/* Whether it is the URL of a proxy: http://host:port and nothing else. */
extern PGDLLEXPORT bool osmtalk_url_is_proxy(const char *url, size_t len);

#endif
