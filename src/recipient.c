/*
 * recipient.c
 *		Who an event is for, as rows say it: URL, headers, secrets.
 *
 * What is secret is copied once, into the delivery, and wiped wherever else it
 * has been; so no statement here sorts, aggregates or hashes it, for which the
 * executor makes copies of its own.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "claimed.h"
#include "headers.h"
#include "recipient.h"
#include "settings.h"
#include "statements.h"
#include "utils/builtins.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* larger than any that are valid */
#define LARGEST_HEADERS (4 * OSMTALK_CUSTOM_HEADERS_LEN)

static OsmtalkStatement select_previous = {
	"osmtalk: claim events",
	"SELECT k.number, p.secret"
	"  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY k (org_id, campaign_id, number)"
	" CROSS JOIN LATERAL (SELECT q.secret FROM osmtalk.previous_secrets q"
	"					   WHERE q.org_id OPERATOR(pg_catalog.=) k.org_id"
	"						 AND (q.campaign_id OPERATOR(pg_catalog.=) k.campaign_id"
	"							  OR (q.campaign_id IS NULL AND k.campaign_id IS NULL))"
	"						 AND q.valid_until OPERATOR(pg_catalog.>) pg_catalog.now()"
	"					  OFFSET 0) p",
	2,
	{TEXTARRAYOID, TEXTARRAYOID}};

static void
wipe_string(char *s)
{
	OPENSSL_cleanse(s, strlen(s));
	pfree(s);
}

/* ---- URL, secret, headers ---- */

static void
read_headers(HeapTuple tuple, int number, OsmtalkDelivery *d)
{
	bool isnull;
	Datum value = osmtalk_column(tuple, number, &isnull);
	Jsonb *headers;

	if (isnull)
		return;
	d->bad_headers = toast_raw_datum_size(value) > LARGEST_HEADERS;
	if (d->bad_headers)
		return;
	headers = DatumGetJsonbP(value);
	d->bad_headers = osmtalk_read_headers(headers, osmtalk_delivery_context(), &d->headers, &d->headers_len) != NULL;
	if ((Pointer) headers != DatumGetPointer(value))
	{
		OPENSSL_cleanse(VARDATA(headers), VARSIZE(headers) - VARHDRSZ);
		pfree(headers);
	}
}

void
osmtalk_read_recipient(HeapTuple tuple, int first, OsmtalkDelivery *d)
{
	MemoryContext context = osmtalk_delivery_context();

	d->url = osmtalk_text_column(tuple, first, context, NULL);
	d->secret = osmtalk_secret_column(tuple, first + 1, context, &d->unsignable);
	read_headers(tuple, first + 2, d);
	d->signer_org_id = osmtalk_text_column(tuple, first + 3, context, NULL);
	d->signer_campaign_id = osmtalk_text_column(tuple, first + 4, context, NULL);
}

void
osmtalk_wipe_recipient(HeapTuple tuple, int first)
{
	osmtalk_wipe_column(tuple, first + 1);
	osmtalk_wipe_column(tuple, first + 2);
}

/* ---- secrets that were replaced ---- */

/* Without a secret of that form there are no headers to sign. */
static bool
is_standard(const OsmtalkDelivery *d)
{
	return d->signer_org_id != NULL && d->secret != NULL && osmtalk_is_standard_secret(d->secret, strlen(d->secret));
}

static Datum
text_array(OsmtalkDelivery **deliveries, int n, size_t field)
{
	Datum *values = palloc(n * sizeof(Datum));
	bool *isnull = palloc(n * sizeof(bool));
	int lower = 1;

	for (int i = 0; i < n; i++)
	{
		const char *s = *(char **) ((char *) deliveries[i] + field);

		isnull[i] = s == NULL;
		values[i] = s == NULL ? (Datum) 0 : CStringGetTextDatum(s);
	}
	return PointerGetDatum(construct_md_array(values, isnull, 1, &n, &lower, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Keeps it, if it is one to sign with; the order does not matter to who verifies. */
static void
add_previous(OsmtalkDelivery *d, HeapTuple tuple)
{
	bool too_long;
	char *secret = osmtalk_secret_column(tuple, 2, osmtalk_delivery_context(), &too_long);

	osmtalk_wipe_column(tuple, 2);
	if (secret == NULL)
		return;
	if (d->nprevious < OSMTALK_MOST_PREVIOUS && strcmp(secret, d->secret) != 0 &&
		osmtalk_is_standard_secret(secret, strlen(secret)))
		d->previous[d->nprevious++] = secret;
	else
		wipe_string(secret);
}

void
osmtalk_read_previous_secrets(dlist_head *list)
{
	OsmtalkDelivery **signers;
	int n = 0;
	Datum values[2];
	dlist_iter iter;

	if (!osmtalk_standard_webhooks_headers)
		return;
	dlist_foreach(iter, list)
		n++;
	signers = palloc(Max(n, 1) * sizeof(*signers));
	n = 0;
	dlist_foreach(iter, list)
	{
		OsmtalkDelivery *d = dlist_container(OsmtalkDelivery, node, iter.cur);

		d->standard = is_standard(d);
		if (d->standard)
			signers[n++] = d;
	}
	if (n == 0)
		return;
	values[0] = text_array(signers, n, offsetof(OsmtalkDelivery, signer_org_id));
	values[1] = text_array(signers, n, offsetof(OsmtalkDelivery, signer_campaign_id));
	osmtalk_select(&select_previous, values);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		bool isnull;

		add_previous(signers[DatumGetInt64(osmtalk_column(tuple, 1, &isnull)) - 1], tuple);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* ---- the end of them ---- */

void
osmtalk_forget_secrets(OsmtalkDelivery *d)
{
	if (d->secret != NULL)
		wipe_string(d->secret);
	for (int i = 0; i < d->nprevious; i++)
		wipe_string(d->previous[i]);
	if (d->headers != NULL)
	{
		OPENSSL_cleanse(d->headers, d->headers_len);
		pfree(d->headers);
	}
	d->secret = d->headers = NULL;
	d->nprevious = 0;
}
