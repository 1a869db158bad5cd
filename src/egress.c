/*
 * egress.c
 *		Which address may be called.
 *
 * Tenants choose URLs, so the address a request is about to connect to is
 * checked, never the name: a name may resolve to anything, and to something
 * else the next time.  What is not global unicast is refused unless the
 * operator trusts its network.  Must not know who asks, or why.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "egress.h"

/* an address as 16 bytes; IPv4 in its mapped form, ::ffff:a.b.c.d */
typedef struct Address
{
	uint8_t bytes[16];
} Address;

typedef struct Network
{
	Address address;
	int prefix; /* of the 128 bits */
} Network;

struct OsmtalkNetworks
{
	size_t count;
	Network networks[];
};

typedef struct Range
{
	const char *network;
	int prefix;
} Range;

/*
 * IPv4 that is not global unicast: the IANA special-purpose registry,
 * multicast, the reserved class E, and Azure's metadata address, which looks
 * public and is not.
 */
static const Range ipv4_not_public[] = {
	{"0.0.0.0", 8},
	{"10.0.0.0", 8},
	{"100.64.0.0", 10},
	{"127.0.0.0", 8},
	{"168.63.129.16", 32},
	{"169.254.0.0", 16},
	{"172.16.0.0", 12},
	{"192.0.0.0", 24},
	{"192.0.2.0", 24},
	{"192.88.99.0", 24},
	{"192.168.0.0", 16},
	{"198.18.0.0", 15},
	{"198.51.100.0", 24},
	{"203.0.113.0", 24},
	{"224.0.0.0", 4},
	{"240.0.0.0", 4},
};

/*
 * IPv6 is global unicast in 2000::/3 alone, less what is special in it: IETF
 * protocol assignments (Teredo among them), documentation, and 6to4, which
 * embeds IPv4.  All other embeddings (mapped, compatible, NAT64) and local
 * ranges lie outside 2000::/3.
 */
static const Range ipv6_public[] = {{"2000::", 3}};
static const Range ipv6_not_public[] = {
	{"2001::", 23},
	{"2001:db8::", 32},
	{"2002::", 16},
	{"3fff::", 20},
};

#define lengthof_array(a) (sizeof(a) / sizeof((a)[0]))

static bool
prefix_matches(const uint8_t *a, const uint8_t *b, int prefix)
{
	int whole = prefix / 8;
	int rest = prefix % 8;

	if (memcmp(a, b, whole) != 0)
		return false;
	return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

static bool
in_ranges(const uint8_t *bytes, int family, const Range *ranges, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		uint8_t network[16];

		if (inet_pton(family, ranges[i].network, network) == 1 &&
			prefix_matches(bytes, network, ranges[i].prefix))
			return true;
	}
	return false;
}

static void
map_ipv4(const void *ipv4, Address *address)
{
	memset(address->bytes, 0, 10);
	memset(address->bytes + 10, 0xff, 2);
	memcpy(address->bytes + 12, ipv4, 4);
}

static bool
is_mapped(const Address *address)
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

	return memcmp(address->bytes, prefix, sizeof(prefix)) == 0;
}

static bool
get_address(const struct sockaddr *addr, Address *address)
{
	if (addr->sa_family == AF_INET)
		map_ipv4(&((const struct sockaddr_in *) addr)->sin_addr, address);
	else if (addr->sa_family == AF_INET6)
		memcpy(address->bytes, &((const struct sockaddr_in6 *) addr)->sin6_addr, 16);
	else
		return false;
	return true;
}

bool
osmtalk_address_parse(const char *text, struct sockaddr_storage *addr)
{
	memset(addr, 0, sizeof(*addr));
	if (inet_pton(AF_INET, text, &((struct sockaddr_in *) addr)->sin_addr) == 1)
		addr->ss_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &((struct sockaddr_in6 *) addr)->sin6_addr) == 1)
		addr->ss_family = AF_INET6;
	else
		return false;
	return true;
}

/* One element of a list, "address" or "address/prefix". */
static bool
parse_network(const char *element, size_t len, Network *network)
{
	char text[INET6_ADDRSTRLEN + sizeof("/128")];
	struct sockaddr_storage addr;
	char *slash;
	int width;

	if (len >= sizeof(text))
		return false;
	memcpy(text, element, len);
	text[len] = '\0';

	slash = strchr(text, '/');
	if (slash != NULL)
		*slash++ = '\0';
	if (!osmtalk_address_parse(text, &addr) ||
		!get_address((struct sockaddr *) &addr, &network->address))
		return false;

	width = addr.ss_family == AF_INET ? 32 : 128;
	network->prefix = width;
	if (slash != NULL)
	{
		size_t digits = strspn(slash, "0123456789");

		if (digits == 0 || digits > 3 || slash[digits] != '\0' || atoi(slash) > width)
			return false;
		network->prefix = atoi(slash);
	}
	network->prefix += 128 - width;
	return true;
}

OsmtalkNetworks *
osmtalk_networks_parse(const char *list, const char **bad, size_t *bad_len)
{
	static const char separators[] = ", \t\r\n";
	size_t most = strlen(list) / 2 + 1; /* elements: a character and a separator each */
	OsmtalkNetworks *result = malloc(sizeof(OsmtalkNetworks) + most * sizeof(Network));

	*bad = NULL;
	*bad_len = 0;
	if (result == NULL)
		return NULL;
	result->count = 0;

	for (const char *p = list + strspn(list, separators); *p != '\0'; p += strspn(p, separators))
	{
		size_t len = strcspn(p, separators);

		if (!parse_network(p, len, &result->networks[result->count]))
		{
			*bad = p;
			*bad_len = len;
			free(result);
			return NULL;
		}
		result->count++;
		p += len;
	}
	return result;
}

size_t
osmtalk_networks_size(const OsmtalkNetworks *networks)
{
	return sizeof(*networks) + networks->count * sizeof(networks->networks[0]);
}

bool
osmtalk_networks_are_none(const OsmtalkNetworks *networks)
{
	return networks->count == 0;
}

bool
osmtalk_networks_contain(const OsmtalkNetworks *networks, const struct sockaddr *addr)
{
	Address address;

	if (!get_address(addr, &address))
		return false;
	for (size_t i = 0; i < networks->count; i++)
	{
		const Network *network = &networks->networks[i];

		if ((network->prefix >= 96 || !is_mapped(&address)) &&
			prefix_matches(address.bytes, network->address.bytes, network->prefix))
			return true;
	}
	return false;
}

bool
osmtalk_address_is_public(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
		return !in_ranges((const uint8_t *) &((const struct sockaddr_in *) addr)->sin_addr, AF_INET,
						  ipv4_not_public, lengthof_array(ipv4_not_public));
	if (addr->sa_family == AF_INET6)
	{
		const uint8_t *bytes = (const uint8_t *) &((const struct sockaddr_in6 *) addr)->sin6_addr;

		return in_ranges(bytes, AF_INET6, ipv6_public, lengthof_array(ipv6_public)) &&
			!in_ranges(bytes, AF_INET6, ipv6_not_public, lengthof_array(ipv6_not_public));
	}
	return false;
}

OsmtalkEgress
osmtalk_egress_check(const OsmtalkNetworks *trusted, bool is_own, bool require_https, bool is_https,
					 const struct sockaddr *addr)
{
	if (osmtalk_networks_contain(trusted, addr))
		return OSMTALK_EGRESS_ALLOWED;
	if (!osmtalk_address_is_public(addr))
		return OSMTALK_EGRESS_NOT_PUBLIC;
	if (is_own)
		return OSMTALK_EGRESS_OWN;
	if (require_https && !is_https)
		return OSMTALK_EGRESS_NEEDS_HTTPS;
	return OSMTALK_EGRESS_ALLOWED;
}
