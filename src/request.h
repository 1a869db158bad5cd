/*
 * request.h
 *		One HTTP request: how it is made, and what is read of its answer.
 *
 * Knows libcurl's easy interface and the address policy; not the loop that
 * drives it, nor SQL.  Nothing here throws.
 */
#ifndef OSMTALK_REQUEST_H
#define OSMTALK_REQUEST_H

#include <curl/curl.h>

#include "delivery.h"

/* read on past what is kept, so that the connection can be used again, but not for ever */
#define OSMTALK_MOST_RESPONSE (64 * 1024)

/* An easy handle with all that requests have in common; NULL if that fails. */
extern CURL *osmtalk_request_create(void);

/*
 * Makes the handle ready to send the delivery.  On failure returns false with
 * the delivery's error set.  The headers are the caller's to free.
 */
extern bool osmtalk_request_prepare(CURL *easy, OsmtalkDelivery *d, struct curl_slist **headers);

/* To be called when libcurl is done with the request, whether it is made again or not. */
extern void osmtalk_request_over(OsmtalkDelivery *d, CURLcode code);

/* Notes in the delivery what came of the request. */
extern void osmtalk_request_finish(CURL *easy, OsmtalkDelivery *d, CURLcode code);

#endif
