/*
 * endpoint_test.c
 *		From a URL to its endpoint, whatever the URL.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "endpoint.h"

/* The name of its endpoint; the URL lies in a block of exactly its size. */
static const char *
name_of_bytes(const char *url, size_t len)
{
	static char *name = NULL;
	char	   *copy = malloc(len > 0 ? len : 1);
	size_t		n;

	free(name);
	name = malloc(OSMTALK_ENDPOINT_LEN);
	if (copy == NULL || name == NULL)
		abort();
	memcpy(copy, url, len);
	n = osmtalk_endpoint_name(copy, len, name);
	free(copy);
	return n == strlen(name) || (n == 0 && strcmp(name, "none") == 0) ? name : "its length is wrong";
}

static const char *
name_of(const char *url)
{
	return name_of_bytes(url, strlen(url));
}

static void
check_name(const char *url, const char *expected)
{
	const char *name = name_of(url);

	CHECK(strcmp(name, expected) == 0, "%.60s: %.60s", url, name);
}

static void
test_names(void)
{
	check_name("https://example.com", "https://example.com:443");
	check_name("http://example.com", "http://example.com:80");
	check_name("https://example.com/", "https://example.com:443");
	check_name("https://example.com/a/b?c#d", "https://example.com:443");
	check_name("https://example.com?a=/:8443", "https://example.com:443");
	check_name("https://example.com#a:1", "https://example.com:443");
	check_name("https://example.com:443/", "https://example.com:443");
	check_name("http://example.com:443/", "http://example.com:443");
	check_name("https://example.com:8443/a:9/b", "https://example.com:8443");
	check_name("HTTPS://EXAMPLE.Com:8443/A", "https://example.com:8443");
	check_name("hTTp://LocalHost/", "http://localhost:80");
	check_name("https://127.0.0.1:1/", "https://127.0.0.1:1");
	check_name("https://[::1]/", "https://[::1]:443");
	check_name("https://[::1]:8443/", "https://[::1]:8443");
	check_name("https://[2001:DB8::A]?x", "https://[2001:db8::a]:443");
	check_name("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example:443");
	check_name("https://example.com:0443/", "https://example.com:443");
}

/* They are refused when they are stored; here they must do no harm. */
static void
test_odd_ones(void)
{
	static const char *const none[] = {
		"", "h", "http", "http:", "http:/", "https:/", "ftp://example.com", "httpx://example.com",
		"//example.com", "example.com", " https://example.com", "file:///etc/passwd", "https:example.com",
	};

	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		check_name(none[i], "none");
	check_name("https://", "https://:443");
	check_name("http:///path", "http://:80");
	check_name("https://:", "https://:443");
	check_name("https://:8443", "https://:8443");
	check_name("https://example.com:", "https://example.com:443");
	check_name("https://example.com:0", "https://example.com:443");
	check_name("https://example.com:80x", "https://example.com:80");
	check_name("https://example.com:x", "https://example.com:443");
	check_name("https://[", "https://[:443");
	check_name("https://]", "https://]:443");
	check_name("https://[::1", "https://[::1");
	check_name("https://\xff\xfe/", "https://\xff\xfe:443");
	CHECK(strcmp(name_of_bytes("https://a\0b/", 12), "https://a:443") == 0, "a zero byte ends the host");
}

/* The name has room for every host that there can be, and is cut for every other. */
static void
test_long_ones(void)
{
	char		url[4096];
	size_t		longest = 0;

	memset(url, 'a', sizeof(url));
	memcpy(url, "https://", 8);
	for (size_t len = 8; len < sizeof(url); len++)
	{
		const char *name = name_of_bytes(url, len);
		size_t		host_len = len - 8 < 256 ? len - 8 : 256;

		if (strlen(name) != 8 + host_len + 4 || memcmp(name, url, 8 + host_len) != 0 || strcmp(name + 8 + host_len, ":443") != 0)
			longest = len;
	}
	CHECK(longest == 0, "hosts of up to 4 kB are kept up to 256 bytes");

	memset(url, '9', sizeof(url));
	memcpy(url, "https://example.com:", 20);
	longest = 0;
	for (size_t len = 20; len < sizeof(url); len++)
	{
		const char *name = name_of_bytes(url, len);

		if (strlen(name) > strlen("https://example.com:999999"))
			longest = strlen(name);
	}
	CHECK(longest == 0, "ports of up to 4 kB");

	memset(url, ':', sizeof(url));
	memcpy(url, "https://", 8);
	CHECK(strlen(name_of_bytes(url, sizeof(url))) < OSMTALK_ENDPOINT_LEN, "nothing but colons");
}

/* Bytes at random, mostly of those that mean something. */
static void
test_random(void)
{
	static const char bytes[] = "hHtTpPsS:/?#[]@.-019aZ\xff%";
	unsigned	seed = 1;
	int			bad = 0;

	for (int i = 0; i < 200000; i++)
	{
		char		url[64] = "https://";
		size_t		len = 8;
		const char *name;

		seed = seed * 1664525u + 1013904223u;
		for (size_t n = (seed >> 8) % (sizeof(url) - 8); len < 8 + n; len++)
		{
			seed = seed * 1664525u + 1013904223u;
			url[len] = bytes[(seed >> 8) % (sizeof(bytes) - 1)];
		}
		name = name_of_bytes(url + i % 2 * 3, len - i % 2 * 3);
		bad += strlen(name) >= OSMTALK_ENDPOINT_LEN || strpbrk(name + (name[0] == 'h' ? 8 : 0), "?#") != NULL ||
			(strcmp(name, "none") != 0 && strncmp(name, "http", 4) != 0);
	}
	CHECK(bad == 0, "at random: %d without a name", bad);
}

int
main(void)
{
	test_names();
	test_odd_ones();
	test_long_ones();
	test_random();
	return finish_checks();
}
