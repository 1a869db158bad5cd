/*
 * egress_fuzz.c
 *		Lists of networks, and addresses: whatever is written there.
 *
 * What is taken for a network must be one by another reading of it, with
 * inet_net_pton's rules left out: inet_pton of what stands before the slash.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "egress.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_address(const char *text)
{
	struct sockaddr_storage addr;
	unsigned char bytes[16];
	bool		v4 = inet_pton(AF_INET, text, bytes) == 1;
	bool		v6 = inet_pton(AF_INET6, text, bytes) == 1;

	if (osmtalk_address_parse(text, &addr) != (v4 || v6))
		abort();
	if (v4 || v6)
	{
		bool		public = osmtalk_address_is_public((struct sockaddr *) &addr);
		const char *bad;
		size_t		bad_len;
		OsmtalkNetworks *none = osmtalk_networks_parse("", &bad, &bad_len);
		OsmtalkNetworks *itself = osmtalk_networks_parse(text, &bad, &bad_len);

		if (none == NULL || itself == NULL || !osmtalk_networks_contain(itself, (struct sockaddr *) &addr) ||
			osmtalk_networks_contain(none, (struct sockaddr *) &addr) ||
			(osmtalk_egress_check(none, false, false, false, (struct sockaddr *) &addr) == OSMTALK_EGRESS_ALLOWED) != public ||
			osmtalk_egress_check(none, true, false, false, (struct sockaddr *) &addr) == OSMTALK_EGRESS_ALLOWED ||
			osmtalk_egress_check(itself, true, true, false, (struct sockaddr *) &addr) != OSMTALK_EGRESS_ALLOWED)
			abort();
		free(none);
		free(itself);
	}
}

/* What is there for no list: the part that is bad lies in it. */
static void
check_list(const char *text, size_t len)
{
	const char *bad;
	size_t		bad_len;
	OsmtalkNetworks *networks = osmtalk_networks_parse(text, &bad, &bad_len);

	if (networks == NULL)
	{
		if (bad < text || bad_len == 0 || bad + bad_len > text + len || memchr(bad, ',', bad_len) != NULL)
			abort();
		return;
	}
	/* it may be copied, as a setting's value is */
	{
		size_t		bytes = osmtalk_networks_size(networks);
		OsmtalkNetworks *copy = malloc(bytes);
		struct sockaddr_in addr = {.sin_family = AF_INET};

		if (copy == NULL)
			abort();
		memcpy(copy, networks, bytes);
		for (uint32_t i = 0; i < 64; i++)
		{
			addr.sin_addr.s_addr = htonl(i * 0x04030201u);
			if (osmtalk_networks_contain(copy, (struct sockaddr *) &addr) !=
				osmtalk_networks_contain(networks, (struct sockaddr *) &addr))
				abort();
		}
		free(copy);
	}
	free(networks);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *text = malloc(size + 1);

	if (text == NULL)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	check_list(text, strlen(text));
	check_address(text);
	free(text);
	return 0;
}
