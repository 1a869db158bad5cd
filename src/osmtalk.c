/*
 * osmtalk.c
 *		Entry point of the library that the server preloads.
 *
 * Preloaded, it defines everything and registers the launcher.  Loaded by a
 * session alone, it defines the settings and the SQL functions; those that
 * need the rest say so.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "launcher.h"
#include "makeway.h"
#include "settings.h"
#include "wakeup.h"

PG_MODULE_MAGIC;

void _PG_init(void);

void
_PG_init(void)
{
	osmtalk_define_settings();

	if (!process_shared_preload_libraries_in_progress)
		return;

	/* a cluster that is being upgraded must not send */
	if (IsBinaryUpgrade)
		return;

	osmtalk_define_shared_memory();
	osmtalk_install_utility_hook();
	osmtalk_register_launcher();
}
