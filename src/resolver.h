/*
 * resolver.h
 *		How many threads look names up.
 *
 * libcurl looks a name up in a thread, which cannot be stopped: it outlives its
 * request when the name's servers do not answer.  Knows nothing of requests.
 */
#ifndef OSMTALK_RESOLVER_H
#define OSMTALK_RESOLVER_H

#include <curl/curl.h>

/* Once, before the first lookup: MOST requests may look a name up at the same time. */
extern void osmtalk_resolver_start(CURLM *multi, int most);

/* Whether there are so many lookups that only names which have been found before should be looked up. */
extern bool osmtalk_resolver_is_busy(void);

/* A lookup begins; and ends, or its request does while the thread goes on. */
extern void osmtalk_resolver_begun(void);
extern void osmtalk_resolver_ended(bool goes_on);

#endif
