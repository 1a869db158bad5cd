/*
 * compose.c
 *		A request's headers: all that does not depend on a connection.
 */
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
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

/* ---- signatures ---- */

/*
 * "id.timestamp.body" is signed in one piece.  An id with a full stop could be
 * read as another id and timestamp: such is not signed, and has no headers of
 * the standard's.
 */
static bool
sign_standard(const OsmtalkMessage *m, OsmtalkSignatures *signatures)
{
	char head[LONGEST_ID + 32];
	char *content;
	char *out = signatures->standard;
	size_t head_len;
	bool ok;

	if (strchr(m->event_id, '.') != NULL || !osmtalk_is_standard_secret(m->secret, strlen(m->secret)))
		return true;
	head_len = (size_t) snprintf(head, sizeof(head), "%s.%" PRId64 ".", m->event_id, m->timestamp);
	content = malloc(head_len + m->body_len);
	if (content == NULL)
		return false;
	memcpy(content, head, head_len);
	memcpy(content + head_len, m->body, m->body_len);

	ok = osmtalk_sign_standard(content, head_len + m->body_len, m->secret, strlen(m->secret), out);
	for (int i = 0; ok && i < m->nprevious; i++)
	{
		/* one of another form has no such signature */
		if (!osmtalk_is_standard_secret(m->previous[i], strlen(m->previous[i])))
			continue;
		out += OSMTALK_STANDARD_SIGNATURE_LEN;
		*out++ = ' ';
		ok = osmtalk_sign_standard(content, head_len + m->body_len, m->previous[i], strlen(m->previous[i]), out);
	}
	free(content);
	return ok;
}

bool
osmtalk_sign_message(const OsmtalkMessage *m, OsmtalkSignatures *signatures)
{
	signatures->classic[0] = signatures->standard[0] = '\0';
	signatures->timestamp = m->timestamp;
	if (m->secret == NULL)
		return true;
	return osmtalk_sign(m->body, m->body_len, m->secret, strlen(m->secret), signatures->classic) &&
		(!m->standard || sign_standard(m, signatures));
}

/* ---- headers ---- */

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
	if (signatures->standard[0] != '\0')
	{
		ADD("webhook-id: %s", m->event_id);
		ADD("webhook-timestamp: %" PRId64, signatures->timestamp);
		ADD("webhook-signature: %s", signatures->standard);
	}
#undef ADD
	for (const char *p = m->custom; p != NULL && *p != '\0'; p += strlen(p) + 1)
		ok = ok && add(arg, p);
	return ok;
}

/* ---- custom headers ---- */

/* RFC 9110, 5.6.2 */
static bool
is_token(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9') ||
			  (s[i] != '\0' && strchr("!#$%&'*+-.^_`|~", s[i]) != NULL)))
			return false;
	return len > 0;
}

static bool
begins_with(const char *s, size_t len, const char *lower)
{
	size_t n = strlen(lower);

	if (len < n)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((s[i] >= 'A' && s[i] <= 'Z' ? s[i] + 'a' - 'A' : s[i]) != lower[i])
			return false;
	return true;
}

/*
 * What the request has by itself, or what would change how it is framed,
 * routed, signed or answered.
 */
static bool
is_reserved(const char *name, size_t len)
{
	static const char *const names[] = {"host", "user-agent", "transfer-encoding", "connection", "keep-alive", "te",
										"trailer", "upgrade", "expect", "accept-encoding", "http2-settings"};
	static const char *const prefixes[] = {"content-", "proxy-", "x-osmtalk-", "webhook-"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (len == strlen(names[i]) && begins_with(name, len, names[i]))
			return true;
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (begins_with(name, len, prefixes[i]))
			return true;
	return false;
}

/*
 * Values are what every HTTP library reads alike.  Spaces at either end would
 * get lost on the way; an empty value would, for libcurl, be no header at all.
 */
const char *
osmtalk_header_complaint(const char *name, size_t name_len, const char *value, size_t value_len)
{
	if (!is_token(name, name_len))
		return "A name is not one of a header: it is empty, or has other characters than letters, digits and !#$%&'*+-.^_`|~.";
	if (is_reserved(name, name_len))
		return "A name is reserved for the request itself.";
	if (value_len == 0)
		return "A value is empty.";
	for (size_t i = 0; i < value_len; i++)
		if (value[i] < ' ' || value[i] > '~')
			return "A value has a line break, another control character, or one that is not ASCII.";
	if (value[0] == ' ' || value[value_len - 1] == ' ')
		return "A value begins or ends with a space.";
	return NULL;
}
