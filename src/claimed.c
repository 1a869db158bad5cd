/*
 * claimed.c
 *		What this process has claimed and not settled yet.
 *
 * The deliveries, which of the outbox's rows they are, and the rows of claims
 * by which they were noted: one per batch, which goes when the last of it is
 * settled.  Knows nothing of how events are chosen or sent.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "claimed.h"
#include "ownership.h"
#include "recipient.h"
#include "statements.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* of one row of claims, so that it fits in a page */
#define BATCH_MOST 256

static OsmtalkStatement note_claims = {
	"osmtalk: claim events",
	"INSERT INTO osmtalk.claims (worker, endpoint_hashes, outbox_ids, attempts) VALUES ($1, $2, $3, $4) RETURNING id",
	4,
	{INT4OID, INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID}};

static MemoryContext delivery_context = NULL;
static HTAB *claimed_ids = NULL;

static int64 *finished = NULL; /* rows of claims */
static int nfinished = 0;
static int finished_capacity = 0;

static void
set_up(void)
{
	claimed_ids = hash_create("osmtalk claimed events", 1024,
							  &(HASHCTL){.keysize = sizeof(int64), .entrysize = sizeof(int64)}, HASH_ELEM | HASH_BLOBS);
	finished_capacity = 1024;
	finished = MemoryContextAlloc(TopMemoryContext, finished_capacity * sizeof(*finished));
	delivery_context = AllocSetContextCreate(TopMemoryContext, "osmtalk deliveries", ALLOCSET_DEFAULT_SIZES);
}

MemoryContext
osmtalk_delivery_context(void)
{
	if (delivery_context == NULL)
		set_up();
	return delivery_context;
}

bool
osmtalk_is_claimed(int64 outbox_id)
{
	return claimed_ids != NULL && hash_search(claimed_ids, &outbox_id, HASH_FIND, NULL) != NULL;
}

OsmtalkDelivery *
osmtalk_delivery_create(int64 outbox_id, int64 endpoint_hash, dlist_head *list)
{
	OsmtalkDelivery *d = MemoryContextAllocZero(osmtalk_delivery_context(), sizeof(OsmtalkDelivery));

	d->outbox_id = outbox_id;
	d->endpoint_hash = endpoint_hash;
	osmtalk_keep_slice(endpoint_hash);
	dlist_push_tail(list, &d->node);
	(void) hash_search(claimed_ids, &outbox_id, HASH_ENTER, NULL);
	return d;
}

/* One event less that the batch waits for. */
static void
let_go_of_batch(OsmtalkBatch *batch)
{
	if (--batch->unsettled > 0)
		return;
	if (nfinished == finished_capacity)
	{
		finished = repalloc(finished, 2 * finished_capacity * sizeof(*finished));
		finished_capacity *= 2;
	}
	finished[nfinished++] = batch->claim_id;
	pfree(batch);
}

void
osmtalk_delivery_free(OsmtalkDelivery *d)
{
	(void) hash_search(claimed_ids, &d->outbox_id, HASH_REMOVE, NULL);
	osmtalk_release_slice(d->endpoint_hash);
	if (d->batch != NULL)
		let_go_of_batch(d->batch);
	osmtalk_forget_secrets(d);
	if (d->signer_org_id != NULL)
		pfree(d->signer_org_id);
	if (d->signer_campaign_id != NULL)
		pfree(d->signer_campaign_id);
	if (d->event_id != NULL)
		pfree(d->event_id);
	if (d->url != NULL)
		pfree(d->url);
	if (d->body != NULL)
		pfree(d->body);
	pfree(d);
}

Datum
osmtalk_finished_claims(int *n)
{
	*n = nfinished;
	return osmtalk_int8_array(finished, nfinished);
}

void
osmtalk_finished_claims_removed(int n)
{
	nfinished -= n;
	if (nfinished > 0)
		memmove(finished, finished + n, nfinished * sizeof(*finished));
}

static void
note_batch(OsmtalkDelivery **deliveries, int n)
{
	int64 *hashes = palloc(n * sizeof(int64));
	int64 *ids = palloc(n * sizeof(int64));
	int32 *attempts = palloc(n * sizeof(int32));
	OsmtalkBatch *batch;
	Datum values[4];
	bool isnull;

	for (int i = 0; i < n; i++)
	{
		hashes[i] = deliveries[i]->endpoint_hash;
		ids[i] = deliveries[i]->outbox_id;
		attempts[i] = deliveries[i]->attempt;
	}
	values[0] = Int32GetDatum(osmtalk_worker_number());
	values[1] = osmtalk_int8_array(hashes, n);
	values[2] = osmtalk_int8_array(ids, n);
	values[3] = osmtalk_int4_array(attempts, n);
	osmtalk_execute(&note_claims, values);

	batch = MemoryContextAlloc(osmtalk_delivery_context(), sizeof(*batch));
	batch->claim_id = DatumGetInt64(osmtalk_column(SPI_tuptable->vals[0], 1, &isnull));
	batch->unsettled = n;
	for (int i = 0; i < n; i++)
		deliveries[i]->batch = batch;
}

void
osmtalk_note_claims(dlist_head *list)
{
	OsmtalkDelivery *batch[BATCH_MOST];
	int n = 0;
	dlist_iter iter;

	dlist_foreach(iter, list)
	{
		batch[n++] = dlist_container(OsmtalkDelivery, node, iter.cur);
		if (n == BATCH_MOST)
		{
			note_batch(batch, n);
			n = 0;
		}
	}
	if (n > 0)
		note_batch(batch, n);
}
