/*
 * signing.c
 *		HMAC-SHA256 signatures of bodies, in C and in SQL.
 *
 * The form is the one that the receiving side of the product's document
 * checks: "sha256=" and lower-case hex, keyed with the secret's bytes as they
 * are.  Keeps no state and knows nothing of events or requests.
 */
#include "postgres.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "fmgr.h"
#include "utils/builtins.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "signing.h"

PG_FUNCTION_INFO_V1(osmtalk_signature);
PG_FUNCTION_INFO_V1(osmtalk_verify_signature);

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

static void
sign_text(text *body, text *secret, char out[OSMTALK_SIGNATURE_LEN + 1])
{
	if (!osmtalk_sign(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body),
					  VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret), out))
		ereport(ERROR,
				errcode(ERRCODE_INTERNAL_ERROR),
				errmsg("could not compute an HMAC-SHA256"));
}

Datum
osmtalk_signature(PG_FUNCTION_ARGS)
{
	char signature[OSMTALK_SIGNATURE_LEN + 1];

	sign_text(PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1), signature);
	PG_RETURN_TEXT_P(cstring_to_text(signature));
}

/*
 * An empty secret verifies nothing: a receiver whose secret is not set would
 * otherwise accept what anybody can compute.  Upper-case hex digits are
 * accepted, as the document's verifier does.
 */
Datum
osmtalk_verify_signature(PG_FUNCTION_ARGS)
{
	const size_t prefix_len = sizeof(OSMTALK_SIGNATURE_PREFIX) - 1;
	char expected[OSMTALK_SIGNATURE_LEN + 1];
	char given[OSMTALK_SIGNATURE_LEN];
	text *secret;
	text *header;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_BOOL(false);

	secret = PG_GETARG_TEXT_PP(1);
	header = PG_GETARG_TEXT_PP(2);
	if (VARSIZE_ANY_EXHDR(secret) == 0 || VARSIZE_ANY_EXHDR(header) != OSMTALK_SIGNATURE_LEN)
		PG_RETURN_BOOL(false);

	memcpy(given, VARDATA_ANY(header), OSMTALK_SIGNATURE_LEN);
	for (size_t i = prefix_len; i < OSMTALK_SIGNATURE_LEN; i++)
		if (given[i] >= 'A' && given[i] <= 'F')
			given[i] += 'a' - 'A';

	sign_text(PG_GETARG_TEXT_PP(0), secret, expected);
	PG_RETURN_BOOL(CRYPTO_memcmp(given, expected, OSMTALK_SIGNATURE_LEN) == 0);
}
