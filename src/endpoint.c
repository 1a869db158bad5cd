/*
 * endpoint.c
 *		The endpoint of a URL: scheme, host and port.
 *
 * URLs are checked when they are stored (is_webhook_url() in rules.sql), so
 * little is left to parse here.  It decides who waits with whom and nothing
 * else: where a request goes is for libcurl and egress.c.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "endpoint.h"
#include "fmgr.h"
#include "utils/builtins.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

PG_FUNCTION_INFO_V1(osmtalk_endpoint_hash);

static bool
starts_with(const char *s, size_t len, const char *prefix)
{
	size_t n = strlen(prefix);

	return len >= n && pg_strncasecmp(s, prefix, n) == 0;
}

int64
osmtalk_endpoint_of(const char *url, size_t len, char name[OSMTALK_ENDPOINT_LEN])
{
	bool https = starts_with(url, len, "https://");
	size_t start = https ? strlen("https://") : strlen("http://");
	size_t end = start;
	size_t colon = 0;
	int n;
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
	for (size_t i = colon + 1; colon != 0 && i < end && isdigit((unsigned char) url[i]) && port <= 65535; i++)
		port = port * 10 + url[i] - '0';
	if (port == 0)
		port = https ? 443 : 80;
	if (colon == 0)
		colon = end;

	n = snprintf(name, OSMTALK_ENDPOINT_LEN, "%s://%.*s:%ld", https ? "https" : "http",
				 (int) Min(colon - start, 256), url + start, port);
	for (char *p = name; *p; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	return (int64) hash_bytes_extended((const unsigned char *) name, n, 0);
}

Datum
osmtalk_endpoint_hash(PG_FUNCTION_ARGS)
{
	text *url = PG_GETARG_TEXT_PP(0);
	char name[OSMTALK_ENDPOINT_LEN];

	PG_RETURN_INT64(osmtalk_endpoint_of(VARDATA_ANY(url), VARSIZE_ANY_EXHDR(url), name));
}
