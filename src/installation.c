/*
 * installation.c
 *		What SQL cannot see of the server that the extension runs in.
 *
 * For health(), which judges it.  Nothing here is a secret.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "settings.h"
#include "utils/builtins.h"
#include "wakeup.h"

PG_FUNCTION_INFO_V1(osmtalk_show_installation);

/* What the database's worker sends with; an empty string if none has said so. */
static void
copy_worker_library(char library[OSMTALK_LIBRARY_LEN])
{
	OsmtalkSlot *slot;

	library[0] = '\0';
	if (osmtalk_shared == NULL)
		return;
	LWLockAcquire(osmtalk_shared->lock, LW_SHARED);
	slot = osmtalk_find_slot(MyDatabaseId, 0);
	if (slot != NULL)
		strlcpy(library, slot->library, OSMTALK_LIBRARY_LEN);
	LWLockRelease(osmtalk_shared->lock);
}

Datum
osmtalk_show_installation(PG_FUNCTION_ARGS)
{
	TupleDesc descriptor;
	char worker_library[OSMTALK_LIBRARY_LEN];
	Datum values[8];
	bool nulls[8] = {false};

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE || descriptor->natts != lengthof(values))
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("function osmtalk.installation() is not of the version of the library, %s", OSMTALK_VERSION),
				errhint("ALTER EXTENSION osmtalk UPDATE; if the library is the older one, restart the server."));

	copy_worker_library(worker_library);
	values[0] = BoolGetDatum(osmtalk_shared != NULL);
	values[1] = CStringGetTextDatum(OSMTALK_VERSION);
	values[2] = CStringGetTextDatum(OpenSSL_version(OPENSSL_VERSION));
	values[3] = CStringGetTextDatum(worker_library);
	nulls[3] = worker_library[0] == '\0';
	values[4] = BoolGetDatum(osmtalk_enabled);
	values[5] = Int32GetDatum(osmtalk_workers);
	values[6] = Int32GetDatum(osmtalk_max_in_flight);
	values[7] = Int32GetDatum(osmtalk_most_requests());
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}
