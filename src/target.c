/*
 * target.c
 *		The URL of a request, as libcurl reads it.
 *
 * URLs are checked when they are written (url.c), by another reader than the
 * one that makes the request; and a table can be written to with its triggers
 * off.  So a URL is checked once more before it is used, and libcurl's own
 * parser has the last word.  Knows nothing else of the request.
 */
#include <curl/curl.h>
#include <string.h>

#include "target.h"
#include "url.h"

static OsmtalkTarget
read_target(const char *url)
{
	OsmtalkTarget target = OSMTALK_TARGET_NONE;
	CURLU *parsed;
	char *scheme = NULL;
	char *port = NULL;
	char *zone = NULL;

	if (!osmtalk_url_is_valid(url, strlen(url)) || (parsed = curl_url()) == NULL)
		return target;
	/* without flags: no scheme is guessed, none is taken that libcurl does not speak */
	if (curl_url_set(parsed, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK &&
		curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		curl_url_get(parsed, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		curl_url_get(parsed, CURLUPART_ZONEID, &zone, 0) == CURLUE_NO_ZONEID &&
		strcmp(port, "0") != 0)
		target = strcmp(scheme, "https") == 0 ? OSMTALK_TARGET_HTTPS
			: strcmp(scheme, "http") == 0	  ? OSMTALK_TARGET_HTTP
											  : OSMTALK_TARGET_NONE;
	curl_free(zone);
	curl_free(port);
	curl_free(scheme);
	curl_url_cleanup(parsed);
	return target;
}

OsmtalkTarget
osmtalk_target_read(const char *url)
{
	/* mostly it is that of the request before */
	static char last_url[OSMTALK_URL_LEN + 1];
	static OsmtalkTarget last = OSMTALK_TARGET_NONE;

	if (last == OSMTALK_TARGET_NONE || strcmp(url, last_url) != 0)
	{
		last = read_target(url);
		if (last != OSMTALK_TARGET_NONE)
			strcpy(last_url, url);
	}
	return last;
}
