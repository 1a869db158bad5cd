/*
 * compose.c
 *		A request's headers: all that does not depend on a connection.
 */
#include <stdio.h>
#include <string.h>

#include "compose.h"

#define LONGEST_ID 400
#define LONGEST_LINE 512

bool
osmtalk_is_event_id(const char *event_id)
{
	if (strlen(event_id) > LONGEST_ID)
		return false;
	for (; *event_id; event_id++)
		if ((unsigned char) *event_id < ' ' || *event_id == '\x7f')
			return false;
	return true;
}

bool
osmtalk_sign_message(const OsmtalkMessage *m, OsmtalkSignatures *signatures)
{
	signatures->classic[0] = '\0';
	if (m->secret == NULL)
		return true;
	return osmtalk_sign(m->body, m->body_len, m->secret, strlen(m->secret), signatures->classic);
}

bool
osmtalk_compose_headers(const OsmtalkMessage *m, const OsmtalkSignatures *signatures,
						OsmtalkAddHeader add, void *arg)
{
	char line[LONGEST_LINE];
	bool ok = add(arg, "Content-Type: application/json");

#define ADD(...) (snprintf(line, sizeof(line), __VA_ARGS__), ok = ok && add(arg, line))

	ADD("X-OsmTalk-Event-Id: %s", m->event_id);
	if (signatures->classic[0] != '\0')
		ADD("X-OsmTalk-Signature: %s", signatures->classic);
#undef ADD
	return ok;
}
