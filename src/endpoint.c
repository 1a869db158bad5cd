/*
 * endpoint.c
 *		The endpoint of a URL: scheme, host and port.
 *
 * URLs are checked when they are stored (is_webhook_url() in rules.sql), so
 * little is left to parse here.  It decides who waits with whom and nothing
 * else: where a request goes is for libcurl and egress.c.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "endpoint.h"

#define MOST_HOST 256

/* whatever the locale */
static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c + 'a' - 'A') : c;
}

static bool
starts_with(const char *s, size_t len, const char *prefix)
{
	size_t n = strlen(prefix);

	if (len < n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (lower(s[i]) != prefix[i])
			return false;
	return true;
}

size_t
osmtalk_endpoint_name(const char *url, size_t len, char name[OSMTALK_ENDPOINT_LEN])
{
	bool https = starts_with(url, len, "https://");
	size_t start = https ? strlen("https://") : strlen("http://");
	size_t end = start;
	size_t colon = 0;
	size_t host_len;
	long port = 0;

	strcpy(name, "none");
	if (!https && !starts_with(url, len, "http://"))
		return 0;
	for (; end < len && strchr("/?#", url[end]) == NULL; end++)
	{
		/* the last colon that no bracket follows, of an IPv6 address, is the port's */
		if (url[end] == ':')
			colon = end;
		else if (url[end] == ']')
			colon = 0;
	}
	for (size_t i = colon + 1; colon != 0 && i < end && url[i] >= '0' && url[i] <= '9' && port <= 65535; i++)
		port = port * 10 + url[i] - '0';
	if (port == 0)
		port = https ? 443 : 80;
	host_len = (colon != 0 ? colon : end) - start;

	(void) snprintf(name, OSMTALK_ENDPOINT_LEN, "%s://%.*s:%ld", https ? "https" : "http",
					(int) (host_len < MOST_HOST ? host_len : MOST_HOST), url + start, port);
	for (char *p = name; *p; p++)
		*p = lower(*p);
	return strlen(name);
}
