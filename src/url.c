/*
 * url.c
 *		Which URLs may be written down, to be called later.
 *
 * Not libcurl's parser, which has no business in a session, but stricter: what
 * two readers could read differently is refused.  The worker has libcurl read
 * a URL before it is used (target.c), and one table of cases, test/urls.txt,
 * is for both.  Must not look a name up, nor judge an address: names may
 * resolve to anything later.
 */
#include <arpa/inet.h>
#include <string.h>

#include "url.h"

#define MOST_NAME 253
#define MOST_LABEL 63

/* The parts of "scheme://host:port/rest"; all point into the text. */
typedef struct Parts
{
	bool https;
	const char *host;
	size_t host_len;
	const char *port; /* without its colon; NULL if there is none */
	size_t port_len;
	const char *rest; /* begins with /, ? or #, or is empty */
	size_t rest_len;
} Parts;

/* Whatever the locale. */
static bool
is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool
skip(const char **p, const char *end, const char *lower)
{
	size_t n = strlen(lower);

	if ((size_t) (end - *p) < n)
		return false;
	for (size_t i = 0; i < n; i++)
	{
		char c = (*p)[i];

		if ((c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c) != lower[i])
			return false;
	}
	*p += n;
	return true;
}

/* False if it does not have the form of one. */
static bool
split(const char *url, size_t len, Parts *parts)
{
	const char *end = url + len;
	const char *p = url;
	const char *authority_end;
	const char *host_end;

	memset(parts, 0, sizeof(*parts));
	parts->https = skip(&p, end, "https://");
	if (!parts->https && !skip(&p, end, "http://"))
		return false;

	for (authority_end = p; authority_end < end && memchr("/?#", *authority_end, 3) == NULL; authority_end++)
		;
	parts->host = p;
	if (p < authority_end && *p == '[')
	{
		host_end = memchr(p, ']', authority_end - p);
		if (host_end == NULL)
			return false;
		host_end++;
	}
	else
	{
		host_end = memchr(p, ':', authority_end - p);
		if (host_end == NULL)
			host_end = authority_end;
	}
	parts->host_len = host_end - p;
	if (host_end < authority_end)
	{
		if (*host_end != ':')
			return false;
		parts->port = host_end + 1;
		parts->port_len = authority_end - parts->port;
	}
	parts->rest = authority_end;
	parts->rest_len = end - authority_end;
	return true;
}

/*
 * A name, or an address in dots.  Names have underscores in practice, and may
 * end with a dot.
 */
static bool
is_name(const char *host, size_t len)
{
	size_t label = 0; /* its length so far */

	if (len > 0 && host[len - 1] == '.')
		len--;
	if (len == 0 || len > MOST_NAME)
		return false;
	if (!is_alphanumeric(host[0]) || !is_alphanumeric(host[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (host[i] == '.' ? label == 0 : !is_alphanumeric(host[i]) && host[i] != '-')
			return false;
		label = host[i] == '.' ? 0 : label + 1;
		if (label > MOST_LABEL)
			return false;
	}
	return true;
}

/* An IPv6 address in brackets, without a zone. */
static bool
is_bracketed(const char *host, size_t len)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;

	if (len < 2 || host[0] != '[' || len - 2 >= sizeof(text) || memchr(host, '\0', len) != NULL)
		return false;
	memcpy(text, host + 1, len - 2);
	text[len - 2] = '\0';
	return inet_pton(AF_INET6, text, &address) == 1;
}

static bool
is_port(const char *digits, size_t len)
{
	long port = 0;

	for (size_t i = 0; i < len; i++)
	{
		if (digits[i] < '0' || digits[i] > '9')
			return false;
		port = port * 10 + digits[i] - '0';
		if (port > 65535)
			return false;
	}
	return port > 0;
}

static bool
is_valid(const char *url, size_t len, Parts *parts)
{
	if (len > OSMTALK_URL_LEN || !split(url, len, parts))
		return false;
	if (!is_name(parts->host, parts->host_len) && !is_bracketed(parts->host, parts->host_len))
		return false;
	if (parts->port != NULL && !is_port(parts->port, parts->port_len))
		return false;
	for (size_t i = 0; i < parts->rest_len; i++)
		if (parts->rest[i] < '!' || parts->rest[i] > '~' || parts->rest[i] == '\\')
			return false;
	return true;
}

bool
osmtalk_url_is_valid(const char *url, size_t len)
{
	Parts parts;

	return is_valid(url, len, &parts);
}

bool
osmtalk_url_is_proxy(const char *url, size_t len)
{
	Parts parts;

	return is_valid(url, len, &parts) && !parts.https && parts.port != NULL &&
		(parts.rest_len == 0 || (parts.rest_len == 1 && parts.rest[0] == '/'));
}
