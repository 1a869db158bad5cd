/*
 * http.h
 *		Many requests at once, in one event loop.
 *
 * Knows libcurl's multi interface; knows no SQL and does not throw but in
 * osmtalk_http_start(), and where libcurl fails as a whole.
 */
#ifndef OSMTALK_HTTP_H
#define OSMTALK_HTTP_H

#include "delivery.h"

/* Sets libcurl up, once per process, and returns the descriptor to wait for. */
extern int osmtalk_http_start(void);

/* The version of libcurl that this process has, and of what it is built with; static. */
extern const char *osmtalk_http_library(void);

/* Settings have changed: requests to come heed them. */
extern void osmtalk_http_reload(void);

/* How many requests may be made at once: the setting, as far as there are descriptors. */
extern int osmtalk_http_capacity(void);

/*
 * Begins the request, as soon as osmtalk_http_work() is called.  Whatever becomes of it, the delivery comes back once,
 * from osmtalk_http_finished() or osmtalk_http_outdated().
 */
extern void osmtalk_http_send(OsmtalkDelivery *d);

/* Milliseconds after which osmtalk_http_work() wants to be called; -1: not for its own sake. */
extern long osmtalk_http_timeout(void);

/*
 * Does what can be done without waiting; returns how many sockets had something, 0 if there was nothing to do.  If
 * libcurl itself cannot go on, ends the process (FATAL); what is finished by then can still be had, and a further call
 * does nothing.
 */
extern int osmtalk_http_work(void);

/* The next delivery whose request is over, or NULL. */
extern OsmtalkDelivery *osmtalk_http_finished(void);

/* Requests that could not begin yet, and were to be begun again, are to be claimed again, too. */
extern void osmtalk_http_give_up_starved(void);

/* The next that could not begin for so long that it is to be claimed again, or NULL. */
extern OsmtalkDelivery *osmtalk_http_outdated(void);

#endif
