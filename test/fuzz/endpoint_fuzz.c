/*
 * endpoint_fuzz.c
 *		Endpoints of anything: a name within its bounds, in lower case, the same
 *		for what differs in case alone.
 */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "endpoint.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *url = malloc(size > 0 ? size : 1);
	char	   *name = malloc(OSMTALK_ENDPOINT_LEN);
	char	   *other = malloc(OSMTALK_ENDPOINT_LEN);
	size_t		len;

	if (url == NULL || name == NULL || other == NULL)
		abort();
	memcpy(url, data, size);
	len = osmtalk_endpoint_name(url, size, name);
	if (len >= OSMTALK_ENDPOINT_LEN || (len == 0 ? strcmp(name, "none") != 0 : strlen(name) != len))
		abort();
	for (const char *p = name; *p != '\0'; p++)
		if (*p >= 'A' && *p <= 'Z')
			abort();
	for (size_t i = 0; i < size; i++)
		if (url[i] >= 'a' && url[i] <= 'z')
			url[i] += 'A' - 'a';
	if (osmtalk_endpoint_name(url, size, other) != len || strcmp(name, other) != 0)
		abort();
	free(url);
	free(name);
	free(other);
	return 0;
}
