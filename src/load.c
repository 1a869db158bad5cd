/*
 * load.c
 *		Where a worker's process begins: it loads the worker's library.
 *
 * The preloaded library is as old as the server's start; the worker's is read
 * from the disk at each start of a worker, and somebody may have installed
 * another version meanwhile.  The two share memory and functions, so they must
 * be of one build: this looks before anything of the worker's is run.  What
 * does not fit, or cannot be loaded at all, is said once, and tried again with
 * growing pauses.  Knows nothing of what workers do.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "launcher.h"
#include "wakeup.h"

#define WORKER_LIBRARY "osmtalk_worker"

static const OsmtalkBuild this_build = OSMTALK_BUILD;

static char *
misfit(const OsmtalkBuild *build)
{
	if (strncmp(build->version, this_build.version, sizeof(build->version)) != 0)
		return psprintf("the server was not restarted after osmtalk %.*s was installed over %s",
						(int) sizeof(build->version), build->version, this_build.version);
	if (build->shared_size != this_build.shared_size || build->slot_size != this_build.slot_size)
		return psprintf("the server was not restarted after another build of osmtalk %s was installed", this_build.version);
	return NULL;
}

/* The worker's entry point; NULL, and why, if there is none that fits. */
static bgworker_main_type
load_main(char **reason)
{
	bgworker_main_type volatile main_function = NULL;

	PG_TRY();
	{
		void *library;
		const OsmtalkBuild *build = load_external_function(WORKER_LIBRARY, "osmtalk_worker_build", true, &library);

		*reason = misfit(build);
		if (*reason == NULL)
			main_function = (bgworker_main_type) load_external_function(WORKER_LIBRARY, "osmtalk_worker_main", true, &library);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		FlushErrorState();
		*reason = psprintf("the worker's library cannot be used: %s", error->message);
	}
	PG_END_TRY();
	return main_function;
}

void
osmtalk_load_worker(Datum arg)
{
	Oid database = DatumGetObjectId(arg);
	char *reason;
	bgworker_main_type main_function = load_main(&reason);
	int number;

	if (main_function != NULL)
	{
		main_function(arg);
		proc_exit(0);
	}

	memcpy(&number, MyBgworkerEntry->bgw_extra, sizeof(number));
	if (osmtalk_note_unfit(database, number, reason))
		ereport(LOG,
				errmsg("osmtalk: no worker for database %u, its events queue: %s", database, reason),
				errhint("Restart the server, so that both of osmtalk's libraries are those that are installed."));
	proc_exit(0);
}
