/*
 * compose.c
 *		The headers of a request.
 *
 * Said once: the worker sends them, and a session shows them of an event that
 * has not been sent.
 */
#include <stdio.h>
#include <string.h>

#include "compose.h"

#define LONGEST_VALUE 400

static bool
is_header_value(const char *s)
{
	if (strlen(s) > LONGEST_VALUE)
		return false;
	for (; *s; s++)
		if ((unsigned char) *s < ' ' || *s == '\x7f')
			return false;
	return true;
}

static bool
take_value(OsmtalkTakeHeader take, void *taker, const char *name, const char *value)
{
	char header[LONGEST_VALUE + 100];

	snprintf(header, sizeof(header), "%s: %s", name, value);
	return take(taker, header);
}

const char *
osmtalk_headers(const char *event_id, const char *signature, OsmtalkTakeHeader take, void *taker)
{
	/* an application may supply its own ids: one that is no header value is not sent as one */
	if (!is_header_value(event_id))
		return "the event's id cannot be sent in a header";
	if (take(taker, "Content-Type: application/json") &&
		take(taker, "User-Agent: " OSMTALK_USER_AGENT) &&
		take_value(take, taker, "X-OsmTalk-Event-Id", event_id) &&
		(signature == NULL || take_value(take, taker, "X-OsmTalk-Signature", signature)) &&
		take(taker, "Expect:"))
		return NULL;
	return "the request could not be prepared";
}
