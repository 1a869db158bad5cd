/*
 * functions.c
 *		The SQL side of what knows nothing of PostgreSQL: ids, signatures,
 *		endpoints, URLs.  And the identity of a database.
 *
 * Arguments are unpacked, failures become errors; how a thing is done is for
 * the module that does it.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "access/detoast.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/base64.h"
#include "common/cryptohash.h"
#include "common/hashfn.h"
#include "common/sha2.h"
#include "egress.h"
#include "endpoint.h"
#include "fmgr.h"
#include "ids.h"
#include "latency.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "settings.h"
#include "signing.h"
#include "url.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

PG_FUNCTION_INFO_V1(osmtalk_new_id);
PG_FUNCTION_INFO_V1(osmtalk_current_origin);
PG_FUNCTION_INFO_V1(osmtalk_signature);
PG_FUNCTION_INFO_V1(osmtalk_verify_signature);
PG_FUNCTION_INFO_V1(osmtalk_new_webhook_secret);
PG_FUNCTION_INFO_V1(osmtalk_endpoint_hash);
PG_FUNCTION_INFO_V1(osmtalk_endpoint_id);
PG_FUNCTION_INFO_V1(osmtalk_latency_bounds);
PG_FUNCTION_INFO_V1(osmtalk_is_webhook_url);
PG_FUNCTION_INFO_V1(osmtalk_is_refused_url);

/* ---- ids ---- */

Datum
osmtalk_new_id(PG_FUNCTION_ARGS)
{
	text *prefix = PG_GETARG_TEXT_PP(0);
	size_t prefix_len = VARSIZE_ANY_EXHDR(prefix);
	size_t len = VARHDRSZ + prefix_len + OSMTALK_ID_TAIL_LEN;
	text *result = palloc(len);
	uint64 microseconds;
	uint8 random[OSMTALK_ID_RANDOM_DIGITS];

	/* since the Unix epoch, so that it does not become negative */
	microseconds = (uint64) (GetCurrentTimestamp() +
							 (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY);
	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				errcode(ERRCODE_INTERNAL_ERROR),
				errmsg("could not generate random values"));

	SET_VARSIZE(result, len);
	osmtalk_id_write(VARDATA_ANY(prefix), prefix_len, microseconds, random, VARDATA(result));
	PG_RETURN_TEXT_P(result);
}

/*
 * A restored dump, a TEMPLATE copy and an upgraded cluster differ in one of
 * the two parts; a physical copy does not, and cannot be told from a failover.
 */
Datum
osmtalk_current_origin(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId)));
}

/* ---- signatures ---- */

/* Of an argument that was unpacked only the copy is ours to wipe. */
static void
wipe_copy(text *plain, Datum argument)
{
	if ((Pointer) plain == DatumGetPointer(argument))
		return;
	OPENSSL_cleanse(VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain));
	pfree(plain);
}

Datum
osmtalk_signature(PG_FUNCTION_ARGS)
{
	text *body = PG_GETARG_TEXT_PP(0);
	text *secret = PG_GETARG_TEXT_PP(1);
	char signature[OSMTALK_SIGNATURE_LEN + 1];
	bool ok = osmtalk_sign(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body),
						   VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret), signature);

	wipe_copy(secret, PG_GETARG_DATUM(1));
	if (!ok)
		ereport(ERROR,
				errcode(ERRCODE_INTERNAL_ERROR),
				errmsg("could not compute an HMAC-SHA256"));
	PG_RETURN_TEXT_P(cstring_to_text(signature));
}

Datum
osmtalk_verify_signature(PG_FUNCTION_ARGS)
{
	text *body;
	text *secret;
	text *header;
	bool ok;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_BOOL(false);

	body = PG_GETARG_TEXT_PP(0);
	secret = PG_GETARG_TEXT_PP(1);
	header = PG_GETARG_TEXT_PP(2);
	ok = osmtalk_verify(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body),
						VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret),
						VARDATA_ANY(header), VARSIZE_ANY_EXHDR(header));
	wipe_copy(secret, PG_GETARG_DATUM(1));
	PG_RETURN_BOOL(ok);
}

Datum
osmtalk_new_webhook_secret(PG_FUNCTION_ARGS)
{
	static const char prefix[] = "whsec_";
	uint8 key[32];
	int most = pg_b64_enc_len(sizeof(key));
	text *result = palloc(VARHDRSZ + sizeof(prefix) - 1 + most);
	char *p = VARDATA(result);
	int len;

	if (!pg_strong_random(key, sizeof(key)))
		ereport(ERROR,
				errcode(ERRCODE_INTERNAL_ERROR),
				errmsg("could not generate random values"));
	memcpy(p, prefix, sizeof(prefix) - 1);
	p += sizeof(prefix) - 1;
#if PG_VERSION_NUM >= 180000
	len = pg_b64_encode(key, sizeof(key), p, most);
#else
	len = pg_b64_encode((char *) key, sizeof(key), p, most);
#endif
	OPENSSL_cleanse(key, sizeof(key));
	if (len < 0)
		elog(ERROR, "could not encode a secret");
	SET_VARSIZE(result, p + len - (char *) result);
	PG_RETURN_TEXT_P(result);
}

/* ---- endpoints and URLs ---- */

int64
osmtalk_endpoint_of(const char *url, size_t len, char name[OSMTALK_ENDPOINT_LEN])
{
	size_t n = osmtalk_endpoint_name(url, len, name);
	int64 hash = n == 0 ? 0 : (int64) hash_bytes_extended((const unsigned char *) name, (int) n, 0);

	return hash == OSMTALK_WAITING_QUEUE ? 0 : hash;
}

Datum
osmtalk_endpoint_hash(PG_FUNCTION_ARGS)
{
	text *url = PG_GETARG_TEXT_PP(0);
	char name[OSMTALK_ENDPOINT_LEN];

	PG_RETURN_INT64(osmtalk_endpoint_of(VARDATA_ANY(url), VARSIZE_ANY_EXHDR(url), name));
}

/* Of 96 bits of a SHA-256, so that nobody finds another organisation and URL with the same. */
void
osmtalk_endpoint_id_of(const char *org_id, size_t org_id_len, const char *url, size_t url_len, char id[OSMTALK_ENDPOINT_ID_LEN])
{
	static const char digits[] = "0123456789abcdef";
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);
	uint8 hash[PG_SHA256_DIGEST_LENGTH];
	char *p = id;

	/* no URL has a line's end in it: it separates them */
	if (context == NULL || pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) org_id, org_id_len) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) "\n", 1) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) url, url_len) < 0 ||
		pg_cryptohash_final(context, hash, sizeof(hash)) < 0)
		/*
		 * OpenSSL may not get over it that memory ran out when it first looked
		 * for the algorithm: the next worker begins anew.
		 */
		ereport(MyBgworkerEntry != NULL ? FATAL : ERROR,
				errcode(ERRCODE_INTERNAL_ERROR),
				errmsg("could not compute a SHA-256"));
	pg_cryptohash_free(context);
	*p++ = 'e';
	*p++ = 'p';
	*p++ = '_';
	for (int i = 0; p < id + OSMTALK_ENDPOINT_ID_LEN - 1; i++)
	{
		*p++ = digits[hash[i] >> 4];
		*p++ = digits[hash[i] & 15];
	}
	*p = '\0';
}

Datum
osmtalk_endpoint_id(PG_FUNCTION_ARGS)
{
	text *org_id = PG_GETARG_TEXT_PP(0);
	text *url = PG_GETARG_TEXT_PP(1);
	char id[OSMTALK_ENDPOINT_ID_LEN];

	osmtalk_endpoint_id_of(VARDATA_ANY(org_id), VARSIZE_ANY_EXHDR(org_id), VARDATA_ANY(url), VARSIZE_ANY_EXHDR(url), id);
	PG_RETURN_TEXT_P(cstring_to_text(id));
}

Datum
osmtalk_latency_bounds(PG_FUNCTION_ARGS)
{
	Datum bounds[OSMTALK_LATENCIES - 1];

	for (int i = 0; i < lengthof(bounds); i++)
		bounds[i] = Int32GetDatum(osmtalk_latency_bound[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(bounds, lengthof(bounds), INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

Datum
osmtalk_is_webhook_url(PG_FUNCTION_ARGS)
{
	text *url;

	/* a long one need not be read to be refused */
	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) - VARHDRSZ > OSMTALK_URL_LEN)
		PG_RETURN_BOOL(false);
	url = PG_GETARG_TEXT_PP(0);
	PG_RETURN_BOOL(osmtalk_url_is_valid(VARDATA_ANY(url), VARSIZE_ANY_EXHDR(url)));
}

/* The address that the endpoint's name has as its host; false if it is no address. */
static bool
address_of(const char *name, struct sockaddr_storage *addr)
{
	char host[OSMTALK_ENDPOINT_LEN];
	const char *start = strstr(name, "://") + 3;
	const char *end = strrchr(start, ':');

	if (*start == '[' && end[-1] == ']')
	{
		start++;
		end--;
	}
	strlcpy(host, start, end - start + 1);
	return osmtalk_address_parse(host, addr);
}

/*
 * is_refused_url(url)
 *
 * What can be said without looking up a name.  Which addresses are the
 * machine's own, the worker alone knows.
 */
Datum
osmtalk_is_refused_url(PG_FUNCTION_ARGS)
{
	text *url = PG_GETARG_TEXT_PP(0);
	char name[OSMTALK_ENDPOINT_LEN];
	struct sockaddr_storage addr;
	bool https;

	if (!osmtalk_url_is_valid(VARDATA_ANY(url), VARSIZE_ANY_EXHDR(url)) ||
		osmtalk_endpoint_name(VARDATA_ANY(url), VARSIZE_ANY_EXHDR(url), name) == 0)
		PG_RETURN_BOOL(true);
	https = strncmp(name, "https:", 6) == 0;
	/* with a proxy, its address is what is judged, and the target's is for the proxy to judge */
	if (osmtalk_proxy[0] == '\0' && address_of(name, &addr))
		PG_RETURN_BOOL(osmtalk_egress_check(osmtalk_trusted_networks, false, osmtalk_require_https, https,
											(struct sockaddr *) &addr) != OSMTALK_EGRESS_ALLOWED);
	PG_RETURN_BOOL(!https && osmtalk_require_https &&
				   (osmtalk_proxy[0] != '\0' || osmtalk_networks_are_none(osmtalk_trusted_networks)));
}
