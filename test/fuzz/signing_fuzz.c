/*
 * signing_fuzz.c
 *		Headers that may be signatures: the first byte says how long the secret
 *		is, the second the body; the rest is the header.
 */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "signing.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *
block(const uint8_t *data, size_t len)
{
	char	   *p = malloc(len > 0 ? len : 1);

	if (p == NULL)
		abort();
	memcpy(p, data, len);
	return p;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t		secret_len;
	size_t		body_len;
	size_t		header_len;
	char	   *secret;
	char	   *body;
	char	   *header;
	char		right[OSMTALK_SIGNATURE_LEN + 1];
	bool		same = true;

	if (size < 2)
		return 0;
	secret_len = data[0] < size - 2 ? data[0] : size - 2;
	body_len = data[1] < size - 2 - secret_len ? data[1] : size - 2 - secret_len;
	header_len = size - 2 - secret_len - body_len;
	secret = block(data + 2, secret_len);
	body = block(data + 2 + secret_len, body_len);
	header = block(data + 2 + secret_len + body_len, header_len);

	if (!osmtalk_sign(body, body_len, secret, secret_len, right) || strlen(right) != OSMTALK_SIGNATURE_LEN)
		abort();
	if (header_len != OSMTALK_SIGNATURE_LEN || memcmp(header, "sha256=", 7) != 0)
		same = false;
	for (size_t i = 7; same && i < header_len; i++)
		same = tolower((unsigned char) header[i]) == right[i];
	if (osmtalk_verify(body, body_len, secret, secret_len, header, header_len) != (same && secret_len > 0))
		abort();
	if (osmtalk_verify(body, body_len, secret, secret_len, right, strlen(right)) != (secret_len > 0))
		abort();
	free(secret);
	free(body);
	free(header);
	return 0;
}
