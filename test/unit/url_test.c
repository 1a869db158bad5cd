/*
 * url_test.c
 *		Which URLs may be written down: the table of cases, test/urls.txt, for
 *		osmtalk's own reader and for libcurl's; and that both read a URL, made
 *		at random, the same way.
 */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "endpoint.h"
#include "target.h"
#include "url.h"

#define TABLE "test/urls.txt"
#define NRANDOM 300000

/* A field as COPY writes it, in place. */
static void
unescape(char *field)
{
	static const char letters[] = "tnrvbf\\";
	static const char meanings[] = "\t\n\r\v\b\f\\";
	char	   *to = field;

	for (const char *p = field; *p; p++)
	{
		const char *letter;

		if (*p != '\\')
			*to++ = *p;
		else if (*++p == 'x')
		{
			char		digits[3] = {p[1], p[2], '\0'};

			*to++ = (char) strtol(digits, NULL, 16);
			p += 2;
		}
		else if ((letter = strchr(letters, *p)) != NULL && *p)
			*to++ = meanings[letter - letters];
		else
			abort();
	}
	*to = '\0';
}

/*
 * What libcurl itself makes of a URL, with nothing of osmtalk's: the name of
 * the endpoint, NULL if it would make no request.
 */
static const char *
libcurls_endpoint(const char *url)
{
	static char name[4096];
	CURLU	   *parsed = curl_url();
	char	   *scheme = NULL;
	char	   *host = NULL;
	char	   *port = NULL;
	bool		ok = curl_url_set(parsed, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK &&
		curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
		curl_url_get(parsed, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		strncmp(scheme, "http", 4) == 0;

	if (ok)
		snprintf(name, sizeof(name), "%s://%s:%s", scheme, host, port);
	for (char *p = name; ok && *p; p++)
		*p = *p >= 'A' && *p <= 'Z' ? (char) (*p + 'a' - 'A') : *p;
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(parsed);
	return ok ? name : NULL;
}

/* An address that libcurl writes in another way: numbers, and IPv6 in its shortest form. */
static bool
is_address(const char *endpoint)
{
	const char *host = strstr(endpoint, "//") + 2;

	return *host == '[' || strspn(host, "0123456789.") == strcspn(host, ":");
}

/* Whether both read the same endpoint. */
static bool
agree(const char *url)
{
	char		name[OSMTALK_ENDPOINT_LEN];
	const char *theirs = libcurls_endpoint(url);

	(void) osmtalk_endpoint_name(url, strlen(url), name);
	return theirs != NULL && (strcmp(name, theirs) == 0 || is_address(theirs));
}

static void
check_case(bool good, const char *url, const char *written, const char *what)
{
	OsmtalkTarget target = osmtalk_target_read(url);
	OsmtalkTarget wanted = strncmp(url, "https", 5) == 0 || strncmp(url, "HTTPS", 5) == 0 ? OSMTALK_TARGET_HTTPS : OSMTALK_TARGET_HTTP;

	CHECK(osmtalk_url_is_valid(url, strlen(url)) == good, "%s, %s: %.60s", what, good ? "may be written" : "may not be written", written);
	if (!good)
		CHECK(target == OSMTALK_TARGET_NONE, "... and no request is made to it");
	else
		CHECK(target == wanted && agree(url), "... and libcurl reads it the same way");
}

static int
check_table(void)
{
	FILE	   *file = fopen(TABLE, "r");
	char		line[8192];
	char		written[8192];
	int			n = 0;

	if (file == NULL)
	{
		perror(TABLE);
		exit(1);
	}
	for (; fgets(line, sizeof(line), file) != NULL; n++)
	{
		char	   *url = strchr(line, '\t') + 1;
		char	   *what = strchr(url, '\t');

		*what++ = '\0';
		what[strcspn(what, "\n")] = '\0';
		strcpy(written, url);
		unescape(url);
		check_case(line[0] == 't', url, written, what);
	}
	fclose(file);
	return n;
}

static unsigned
pick(unsigned n)
{
	static uint64_t state = 1;

	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned) (state >> 33) % n;
}

/* Pieces of URLs, put together at random: whatever may be written, libcurl reads the same way. */
static void
check_random(void)
{
	static const char *const pieces[] = {
		"http://", "https://", "HTTP://", "ftp://", "//", "/", "?", "#", "@", ":", ":443", ":80", ":0", ":65535", ":65536",
		":00081", "[", "]", "[::1]", "[::ffff:1.2.3.4]", "[fe80::1%25lo]", "::", "1", "127.0.0.1", "0x7f", "0177", "4294967296",
		".", "..", "-", "_", "a", "B", "example.com", "xn--", "%", "%41", "%2f", "%00", "\\", " ", "\t", "\x7f", "\xc3\xa9", "!", "*", ";", "=",
		"&", "{", "|", "\"", "<", "^", "localhost", "user", "user:password@"};
	int			written = 0;
	int			differ = 0;

	for (int i = 0; i < NRANDOM; i++)
	{
		char		url[512] = "";

		/* two of three have what it takes to begin with */
		if (pick(3) > 0)
			strcat(url, pieces[pick(3)]);
		if (pick(2) > 0)
			strcat(url, pick(2) > 0 ? "a" : "[::1]");
		for (unsigned n = pick(8); n > 0; n--)
			strcat(url, pieces[pick(sizeof(pieces) / sizeof(pieces[0]))]);
		if (!osmtalk_url_is_valid(url, strlen(url)))
			continue;
		written++;
		if (osmtalk_target_read(url) != OSMTALK_TARGET_NONE && agree(url))
			continue;
		if (differ++ < 10)
			printf("# read differently: %s\n", url);
	}
	CHECK(differ == 0, "of %d at random, %d may be written, and libcurl reads all of these the same way", NRANDOM, written);
	CHECK(written > NRANDOM / 20, "they are many");
}

int
main(void)
{
	static const char *const proxies[] = {"http://proxy:3128", "http://proxy.example.com:3128/", "HTTP://10.0.0.1:8080", "http://[fd00::1]:4750"};
	static const char *const no_proxies[] = {"", "proxy", "proxy:3128", "http://proxy", "https://proxy:3128", "socks5://proxy:1080", "http://user@proxy:3128",
		"http://user:password@proxy:3128", "http://proxy:3128/path", "http://proxy:3128?a", "http://proxy:3128#a", "http://proxy:3128//", "http://proxy:0", " http://proxy:3128"};
	static char long_url[3000000];
	int			n = check_table();

	CHECK(n > 200, "%d cases", n);
	check_random();

	memset(long_url, 'a', sizeof(long_url) - 1);
	memcpy(long_url, "https://", 8);
	CHECK(!osmtalk_url_is_valid(long_url, sizeof(long_url) - 1), "three megabytes are no URL");
	CHECK(!osmtalk_url_is_valid("https://a/\0b", 12), "nor is what has a NUL in its path");
	CHECK(!osmtalk_url_is_valid("https://[::1\0]/", 15), "or in its address");
	CHECK(!osmtalk_url_is_valid("https://a\0b/", 12), "or in its name");

	for (size_t i = 0; i < sizeof(proxies) / sizeof(proxies[0]); i++)
		CHECK(osmtalk_url_is_proxy(proxies[i], strlen(proxies[i])), "\"%s\" is a proxy", proxies[i]);
	for (size_t i = 0; i < sizeof(no_proxies) / sizeof(no_proxies[0]); i++)
		CHECK(!osmtalk_url_is_proxy(no_proxies[i], strlen(no_proxies[i])), "\"%s\" is not", no_proxies[i]);
	return finish_checks();
}
