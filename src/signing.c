/*
 * signing.c
 *		HMAC-SHA256 signatures of bodies.
 *
 * In two forms.  The one that the receiving side of the product's document
 * checks: "sha256=" and lower-case hex, keyed with the secret's bytes as they
 * are.  And that of Standard Webhooks: "v1," and base64, keyed with the bytes
 * for which the base64 after "whsec_" stands.  Knows nothing of events or
 * requests, nor of SQL (functions.c, webhooks.c).
 */
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "signing.h"

#define DIGEST_LEN 32

static bool
hmac(const void *key, size_t key_len, const char *data, size_t len, unsigned char digest[EVP_MAX_MD_SIZE])
{
	unsigned int digest_len = 0;

	return key_len <= INT_MAX &&
		HMAC(EVP_sha256(), key, (int) key_len, (const unsigned char *) data, len, digest, &digest_len) != NULL &&
		digest_len == DIGEST_LEN;
}

bool
osmtalk_sign(const char *body, size_t body_len, const char *secret, size_t secret_len,
			 char out[OSMTALK_SIGNATURE_LEN + 1])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char digest[EVP_MAX_MD_SIZE];
	char *p = out;

	*out = '\0';
	if (!hmac(secret, secret_len, body, body_len, digest))
		return false;

	memcpy(p, OSMTALK_SIGNATURE_PREFIX, sizeof(OSMTALK_SIGNATURE_PREFIX) - 1);
	p += sizeof(OSMTALK_SIGNATURE_PREFIX) - 1;
	for (int i = 0; i < DIGEST_LEN; i++)
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

/* ---- Standard Webhooks ---- */

#define SECRET_PREFIX "whsec_"
#define LONGEST_KEY (OSMTALK_LONGEST_SECRET / 4 * 3)

static int
base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63
									: -1;
}

/*
 * The bytes that it stands for, 0 if it is no base64 or empty.  Padded, as
 * every library reads it, and without spaces; OpenSSL's reader takes more, and
 * does not say how much of the end is padding.
 */
static size_t
decode_base64(const char *s, size_t len, unsigned char *out)
{
	size_t n = 0;

	if (len % 4 != 0)
		return 0;
	for (size_t i = 0; i < len; i += 4)
	{
		unsigned int bits = 0;
		int padding = 0;

		for (size_t j = 0; j < 4; j++)
		{
			int digit = 0;

			if (s[i + j] == '=' && i + 4 == len && j >= 2)
				padding++;
			else if (padding > 0 || (digit = base64_digit(s[i + j])) < 0)
				return 0;
			bits = bits << 6 | (unsigned int) digit;
		}
		out[n++] = (unsigned char) (bits >> 16);
		if (padding < 2)
			out[n++] = (unsigned char) (bits >> 8);
		if (padding < 1)
			out[n++] = (unsigned char) bits;
	}
	return n;
}

/* The key is the caller's to wipe, whatever is returned: its length, or 0 for a secret of another form. */
static size_t
standard_key(const char *secret, size_t len, unsigned char key[LONGEST_KEY])
{
	const size_t prefix_len = sizeof(SECRET_PREFIX) - 1;

	if (len > OSMTALK_LONGEST_SECRET || len < prefix_len || memcmp(secret, SECRET_PREFIX, prefix_len) != 0)
		return 0;
	return decode_base64(secret + prefix_len, len - prefix_len, key);
}

bool
osmtalk_is_standard_secret(const char *secret, size_t len)
{
	unsigned char key[LONGEST_KEY];
	size_t key_len = standard_key(secret, len, key);

	OPENSSL_cleanse(key, sizeof(key));
	return key_len > 0;
}

bool
osmtalk_sign_standard(const char *content, size_t content_len, const char *secret, size_t secret_len,
					  char out[OSMTALK_STANDARD_SIGNATURE_LEN + 1])
{
	const size_t prefix_len = sizeof(OSMTALK_STANDARD_SIGNATURE_PREFIX) - 1;
	unsigned char key[LONGEST_KEY];
	unsigned char digest[EVP_MAX_MD_SIZE];
	size_t key_len = standard_key(secret, secret_len, key);
	bool ok = key_len > 0 && hmac(key, key_len, content, content_len, digest);

	OPENSSL_cleanse(key, sizeof(key));
	*out = '\0';
	if (!ok)
		return false;
	memcpy(out, OSMTALK_STANDARD_SIGNATURE_PREFIX, prefix_len);
	(void) EVP_EncodeBlock((unsigned char *) out + prefix_len, digest, DIGEST_LEN);
	return true;
}

/*
 * Each of the list is compared, so that it takes the same time whichever is
 * right; those of another scheme or length are none.
 */
bool
osmtalk_verify_standard(const char *content, size_t content_len, const char *secret, size_t secret_len,
						const char *signatures, size_t signatures_len)
{
	char expected[OSMTALK_STANDARD_SIGNATURE_LEN + 1];
	const char *end = signatures + signatures_len;
	bool ok = false;

	if (!osmtalk_sign_standard(content, content_len, secret, secret_len, expected))
		return false;
	for (const char *p = signatures; p < end;)
	{
		const char *space = memchr(p, ' ', end - p);
		size_t len = (space != NULL ? space : end) - p;

		if (len == OSMTALK_STANDARD_SIGNATURE_LEN && CRYPTO_memcmp(p, expected, len) == 0)
			ok = true;
		p += len + 1;
	}
	OPENSSL_cleanse(expected, sizeof(expected));
	return ok;
}
