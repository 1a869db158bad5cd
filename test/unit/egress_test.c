/*
 * egress_test.c
 *		Which address may be called: a table of addresses, and the parser of
 *		trusted networks.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "egress.h"

static const char *const not_public[] = {
	"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255",
	"127.0.0.1", "127.255.255.255", "168.63.129.16", "169.254.0.1", "169.254.169.254",
	"172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.255", "192.0.2.1", "192.88.99.1",
	"192.168.0.0", "192.168.255.255", "198.18.0.0", "198.19.255.255", "198.51.100.7", "203.0.113.255",
	"224.0.0.1", "239.255.255.255", "240.0.0.0", "255.255.255.255",
	"::", "::1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b:1::1",
	"100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:1ff:ffff::1", "2001:db8::1",
	"2001:db8:ffff::", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "3fff:fff:ffff::1",
	"4000::1", "5f00::1", "fc00::1", "fdff::1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "ff0e::1",
};

static const char *const public[] = {
	"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
	"128.0.0.1", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255",
	"172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0",
	"192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0",
	"203.0.112.255", "203.0.114.0", "223.255.255.255",
	"2000::1", "2001:200::1", "2001:4860:4860::8888", "2001:db7:ffff::1", "2001:db9::1", "2003::1",
	"2606:4700:4700::1111", "2a00:1450::1", "3ffe::1", "3fff:1000::1",
};

static struct sockaddr *
address(const char *text)
{
	static struct sockaddr_storage addr;

	if (!osmtalk_address_parse(text, &addr))
		abort();
	return (struct sockaddr *) &addr;
}

static OsmtalkNetworks *
networks(const char *list)
{
	const char *bad;
	size_t		bad_len;

	return osmtalk_networks_parse(list, &bad, &bad_len);
}

static void
check_contains(const char *list, const char *addr, bool expected)
{
	OsmtalkNetworks *parsed = networks(list);

	CHECK(parsed != NULL && osmtalk_networks_contain(parsed, address(addr)) == expected,
		  "\"%s\" %s %s", list, expected ? "contains" : "does not contain", addr);
	free(parsed);
}

static void
check_bad(const char *list, const char *element)
{
	const char *bad = NULL;
	size_t		bad_len = 0;
	OsmtalkNetworks *parsed = osmtalk_networks_parse(list, &bad, &bad_len);

	CHECK(parsed == NULL && bad != NULL && bad_len == strlen(element) && memcmp(bad, element, bad_len) == 0,
		  "\"%s\" is refused for \"%s\"", list, element);
	free(parsed);
}

/* Answers the questions of egress_oracle.py. */
static int
answer(void)
{
	static const char *const verdicts[] = {
		[OSMTALK_EGRESS_ALLOWED] = "allowed",
		[OSMTALK_EGRESS_NOT_PUBLIC] = "not_public",
		[OSMTALK_EGRESS_OWN] = "own",
		[OSMTALK_EGRESS_NEEDS_HTTPS] = "needs_https",
	};
	char		line[1024];

	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		char	   *scheme = strchr(line, '\t');
		char	   *own = scheme ? strchr(scheme + 1, '\t') : NULL;
		char	   *addr = own ? strchr(own + 1, '\t') : NULL;
		OsmtalkNetworks *trusted;

		if (addr == NULL)
			abort();
		*scheme++ = *own++ = *addr++ = '\0';
		addr[strcspn(addr, "\n")] = '\0';
		trusted = networks(line);
		if (trusted == NULL)
			abort();
		puts(verdicts[osmtalk_egress_check(trusted, *own == '1', true, strcmp(scheme, "https") == 0, address(addr))]);
		free(trusted);
	}
	return 0;
}

int
main(int argc, char **argv)
{
	OsmtalkNetworks *none;
	OsmtalkNetworks *local;
	struct sockaddr_storage unix_addr = {.ss_family = AF_UNIX};
	struct sockaddr_storage parsed;

	if (argc > 1 && strcmp(argv[1], "--answer") == 0)
		return answer();
	none = networks("");
	local = networks("127.0.0.0/8, ::1");
	for (size_t i = 0; i < sizeof(not_public) / sizeof(not_public[0]); i++)
		CHECK(!osmtalk_address_is_public(address(not_public[i])), "%s is not public", not_public[i]);
	for (size_t i = 0; i < sizeof(public) / sizeof(public[0]); i++)
		CHECK(osmtalk_address_is_public(address(public[i])), "%s is public", public[i]);
	CHECK(!osmtalk_address_is_public((struct sockaddr *) &unix_addr), "a unix socket is not public");

	CHECK(osmtalk_egress_check(none, false, true, true, address("8.8.8.8")) == OSMTALK_EGRESS_ALLOWED, "https to the public");
	CHECK(osmtalk_egress_check(none, false, true, false, address("8.8.8.8")) == OSMTALK_EGRESS_NEEDS_HTTPS, "no http to the public");
	CHECK(osmtalk_egress_check(none, false, false, false, address("8.8.8.8")) == OSMTALK_EGRESS_ALLOWED, "unless the operator allows it");
	CHECK(osmtalk_egress_check(none, false, false, true, address("127.0.0.1")) == OSMTALK_EGRESS_NOT_PUBLIC, "not to the local host");
	CHECK(osmtalk_egress_check(local, false, true, false, address("127.0.0.1")) == OSMTALK_EGRESS_ALLOWED, "http to a trusted network");
	CHECK(osmtalk_egress_check(local, false, true, true, address("::1")) == OSMTALK_EGRESS_ALLOWED, "https to a trusted address");
	CHECK(osmtalk_egress_check(local, false, true, true, address("::2")) == OSMTALK_EGRESS_NOT_PUBLIC, "not to its neighbour");
	CHECK(osmtalk_egress_check(local, false, true, true, (struct sockaddr *) &unix_addr) == OSMTALK_EGRESS_NOT_PUBLIC, "not to a unix socket");
	CHECK(osmtalk_egress_check(none, true, false, true, address("8.8.8.8")) == OSMTALK_EGRESS_OWN, "not to a public address that is this machine's own");
	CHECK(osmtalk_egress_check(local, true, true, false, address("127.0.0.1")) == OSMTALK_EGRESS_ALLOWED, "unless it is trusted");
	free(none);
	free(local);

	check_contains("10.0.0.0/8", "10.1.2.3", true);
	check_contains("10.0.0.0/8", "11.1.2.3", false);
	check_contains("10.1.2.3/8", "10.9.9.9", true);
	check_contains("10.1.2.3", "10.1.2.3", true);
	check_contains("10.1.2.3", "10.1.2.4", false);
	check_contains("10.1.2.0/23", "10.1.3.255", true);
	check_contains("10.1.2.0/23", "10.1.4.0", false);
	check_contains("0.0.0.0/0", "1.2.3.4", true);
	check_contains("0.0.0.0/0", "::1", false);
	check_contains("::/0", "::1", true);
	check_contains("::/0", "127.0.0.1", false);
	check_contains("::/0", "::ffff:127.0.0.1", false);
	check_contains("::ffff:0:0/96", "127.0.0.1", true);
	check_contains("::/95", "127.0.0.1", false);
	check_contains("0.0.0.0/0", "::ffff:127.0.0.1", true);
	check_contains("::ffff:10.0.0.0/104", "10.1.2.3", true);
	check_contains("fd00::/8", "fd12:3456::1", true);
	check_contains("fd00::/8", "fe00::1", false);
	check_contains("fd00::/9", "fd80::1", false);
	check_contains(" 10.0.0.0/8,\t192.168.0.0/16 ::1/128 ", "192.168.9.9", true);
	check_contains(" 10.0.0.0/8,\t192.168.0.0/16 ::1/128 ", "::1", true);
	check_contains(",,,", "::1", false);
	/* the mapped form of a trusted IPv4 address is that address */
	check_contains("127.0.0.0/8", "::ffff:127.0.0.1", true);

	check_bad("10.0.0.0/33", "10.0.0.0/33");
	check_bad("::1/129", "::1/129");
	check_bad("10.0.0.0/8,nonsense", "nonsense");
	check_bad("10.0.0.0/", "10.0.0.0/");
	check_bad("10.0.0.0/8x", "10.0.0.0/8x");
	check_bad("10.0.0.0/-1", "10.0.0.0/-1");
	check_bad("10.0.0.0/0008", "10.0.0.0/0008");
	check_bad("10.0.0", "10.0.0");
	check_bad("0x7f000001", "0x7f000001");
	check_bad("localhost", "localhost");
	check_bad("1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb/64 ::1", "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb/64");

	CHECK(!osmtalk_address_parse("127.1", &parsed), "127.1 is not read as an address");
	CHECK(!osmtalk_address_parse("", &parsed), "nothing is not read as an address");
	CHECK(!osmtalk_address_parse("fe80::1%eth0", &parsed), "a zone is not read as an address");
	return finish_checks();
}
