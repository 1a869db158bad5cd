/*
 * webhooks.c
 *		The SQL side of what a receiver sees: Standard Webhooks, and headers of
 *		its own.
 *
 * Arguments are unpacked; how a thing is done is for the module that does it.
 */
#include "postgres.h"

#include <math.h>
#include <openssl/crypto.h>

#include "access/detoast.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "headers.h"
#include "signing.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

PG_FUNCTION_INFO_V1(osmtalk_verify_standard_webhook);
PG_FUNCTION_INFO_V1(osmtalk_is_standard_secret_sql);
PG_FUNCTION_INFO_V1(osmtalk_webhook_headers_complaint);

/* Of an argument that was unpacked only the copy is ours to wipe. */
static void
wipe_copy(void *plain, Datum argument)
{
	if ((Pointer) plain == DatumGetPointer(argument))
		return;
	OPENSSL_cleanse(VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain));
	pfree(plain);
}

/* ---- Standard Webhooks ---- */

typedef enum
{
	WEBHOOK_ID,
	WEBHOOK_TIMESTAMP,
	WEBHOOK_SIGNATURE,
	WEBHOOK_HEADERS
} WebhookHeader;

static const char *const header_names[WEBHOOK_HEADERS] = {"webhook-id", "webhook-timestamp", "webhook-signature"};

typedef struct Value
{
	const char *bytes; /* NULL: not there */
	int len;
} Value;

/* Each of them once, whatever the case of its name, and a string that is not empty; the id without a full stop. */
static bool
find_headers(Jsonb *jsonb, Value values[WEBHOOK_HEADERS])
{
	JsonbIterator *it;
	JsonbValue name, value;

	memset(values, 0, WEBHOOK_HEADERS * sizeof(Value));
	if (!JB_ROOT_IS_OBJECT(jsonb))
		return false;
	it = JsonbIteratorInit(&jsonb->root);
	(void) JsonbIteratorNext(&it, &value, true);
	while (JsonbIteratorNext(&it, &name, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		for (int i = 0; i < WEBHOOK_HEADERS; i++)
		{
			if (name.val.string.len != (int) strlen(header_names[i]) ||
				pg_strncasecmp(name.val.string.val, header_names[i], name.val.string.len) != 0)
				continue;
			if (values[i].bytes != NULL || value.type != jbvString || value.val.string.len == 0)
				return false;
			values[i] = (Value){value.val.string.val, value.val.string.len};
		}
	}
	for (int i = 0; i < WEBHOOK_HEADERS; i++)
		if (values[i].bytes == NULL)
			return false;
	/* what is signed is cut at the first two full stops: with one in the id, elsewhere than it was composed */
	return memchr(values[WEBHOOK_ID].bytes, '.', values[WEBHOOK_ID].len) == NULL;
}

/* Whole seconds since 1970; false if it is nothing but digits, or too many. */
static bool
read_timestamp(const Value *value, int64 *seconds)
{
	*seconds = 0;
	if (value->len > 15)
		return false;
	for (int i = 0; i < value->len; i++)
	{
		if (value->bytes[i] < '0' || value->bytes[i] > '9')
			return false;
		*seconds = *seconds * 10 + value->bytes[i] - '0';
	}
	return true;
}

/* Whether it is that close to now.  Months have 30 days, and nothing overflows. */
static bool
is_timely(int64 seconds, const Interval *tolerance)
{
	double most = tolerance->time / (double) USECS_PER_SEC +
		((double) tolerance->month * DAYS_PER_MONTH + tolerance->day) * SECS_PER_DAY;
	double now = GetCurrentTimestamp() / (double) USECS_PER_SEC +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (double) SECS_PER_DAY;

	/* a timestamp is whole seconds: what was cut off is not held against it */
	return fabs(floor(now) - (double) seconds) <= most;
}

/* "id.timestamp.body", in a block that is to be freed. */
static char *
signed_content(const Value *values, text *body, size_t *len)
{
	const Value *id = &values[WEBHOOK_ID], *timestamp = &values[WEBHOOK_TIMESTAMP];
	char *content;
	char *p;

	*len = (size_t) id->len + timestamp->len + VARSIZE_ANY_EXHDR(body) + 2;
	p = content = MemoryContextAllocHuge(CurrentMemoryContext, *len);
	memcpy(p, id->bytes, id->len);
	p += id->len;
	*p++ = '.';
	memcpy(p, timestamp->bytes, timestamp->len);
	p += timestamp->len;
	*p++ = '.';
	memcpy(p, VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body));
	return content;
}

/* verify_standard_webhook(body, headers, secret, tolerance) */
Datum
osmtalk_verify_standard_webhook(PG_FUNCTION_ARGS)
{
	Value values[WEBHOOK_HEADERS];
	int64 seconds;
	text *secret;
	char *content;
	size_t content_len;
	bool ok;

	for (int i = 0; i < 4; i++)
		if (PG_ARGISNULL(i))
			PG_RETURN_BOOL(false);
	if (!find_headers(PG_GETARG_JSONB_P(1), values) ||
		!read_timestamp(&values[WEBHOOK_TIMESTAMP], &seconds) ||
		!is_timely(seconds, PG_GETARG_INTERVAL_P(3)))
		PG_RETURN_BOOL(false);

	content = signed_content(values, PG_GETARG_TEXT_PP(0), &content_len);
	secret = PG_GETARG_TEXT_PP(2);
	ok = osmtalk_verify_standard(content, content_len, VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret),
								 values[WEBHOOK_SIGNATURE].bytes, values[WEBHOOK_SIGNATURE].len);
	wipe_copy(secret, PG_GETARG_DATUM(2));
	pfree(content);
	PG_RETURN_BOOL(ok);
}

/* is_standard_secret(secret) */
Datum
osmtalk_is_standard_secret_sql(PG_FUNCTION_ARGS)
{
	text *secret;
	bool ok;

	/* a long one need not be read to be refused */
	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) - VARHDRSZ > OSMTALK_LONGEST_SECRET)
		PG_RETURN_BOOL(false);
	secret = PG_GETARG_TEXT_PP(0);
	ok = osmtalk_is_standard_secret(VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret));
	wipe_copy(secret, PG_GETARG_DATUM(0));
	PG_RETURN_BOOL(ok);
}

/* ---- headers of a receiver's own ---- */

/* webhook_headers_complaint(headers) */
Datum
osmtalk_webhook_headers_complaint(PG_FUNCTION_ARGS)
{
	Jsonb *headers = PG_GETARG_JSONB_P(0);
	char *block;
	size_t len;
	const char *complaint = osmtalk_read_headers(headers, CurrentMemoryContext, &block, &len);

	wipe_copy(headers, PG_GETARG_DATUM(0));
	if (complaint != NULL)
		PG_RETURN_TEXT_P(cstring_to_text(complaint));
	OPENSSL_cleanse(block, len);
	pfree(block);
	PG_RETURN_NULL();
}
