/*
 * signing.c
 *		HMAC-SHA256 signatures of bodies.
 *
 * The form is the one that the receiving side of the product's document
 * checks: "sha256=" and lower-case hex, keyed with the secret's bytes as they
 * are.  Knows nothing of events or requests, nor of SQL (functions.c).
 */
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "signing.h"

bool
osmtalk_sign(const char *body, size_t body_len, const char *secret, size_t secret_len,
			 char out[OSMTALK_SIGNATURE_LEN + 1])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int digest_len = 0;
	char *p = out;

	*out = '\0';
	if (secret_len > INT_MAX ||
		HMAC(EVP_sha256(), secret, (int) secret_len, (const unsigned char *) body, body_len,
			 digest, &digest_len) == NULL ||
		digest_len != 32)
		return false;

	memcpy(p, OSMTALK_SIGNATURE_PREFIX, sizeof(OSMTALK_SIGNATURE_PREFIX) - 1);
	p += sizeof(OSMTALK_SIGNATURE_PREFIX) - 1;
	for (unsigned int i = 0; i < digest_len; i++)
	{
		*p++ = hex[digest[i] >> 4];
		*p++ = hex[digest[i] & 0xf];
	}
	*p = '\0';
	return true;
}

/*
 * An empty secret verifies nothing: a receiver whose secret is not set would
 * otherwise accept what anybody can compute.  Upper-case hex digits are
 * accepted, as the document's verifier does.
 */
bool
osmtalk_verify(const char *body, size_t body_len, const char *secret, size_t secret_len,
			   const char *header, size_t header_len)
{
	char expected[OSMTALK_SIGNATURE_LEN + 1];
	char given[OSMTALK_SIGNATURE_LEN];
	bool ok;

	if (secret_len == 0 || header_len != OSMTALK_SIGNATURE_LEN)
		return false;

	memcpy(given, header, OSMTALK_SIGNATURE_LEN);
	for (size_t i = sizeof(OSMTALK_SIGNATURE_PREFIX) - 1; i < OSMTALK_SIGNATURE_LEN; i++)
		if (given[i] >= 'A' && given[i] <= 'F')
			given[i] += 'a' - 'A';

	ok = osmtalk_sign(body, body_len, secret, secret_len, expected) &&
		CRYPTO_memcmp(given, expected, OSMTALK_SIGNATURE_LEN) == 0;
	/* the signature of a body that somebody else may have made up */
	OPENSSL_cleanse(expected, sizeof(expected));
	return ok;
}
