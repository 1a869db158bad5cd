/*
 * fault.c
 *		Faults on purpose at each statement of our functions in PL/pgSQL; see
 *		fault.h.
 */
#include "postgres.h"

#include "fault.h"

#ifdef OSMTALK_FAULTS

#include "fmgr.h"
#include "plpgsql.h"

static void
at_statement(PLpgSQL_execstate *estate, PLpgSQL_stmt *statement)
{
	if (strncmp(estate->func->fn_signature, "osmtalk.", strlen("osmtalk.")) == 0)
		osmtalk_fault_at_step(psprintf("%s line %d", estate->func->fn_signature, statement->lineno));
}

void
osmtalk_fault_watch_functions(void)
{
	static PLpgSQL_plugin plugin = {.stmt_beg = at_statement};

	*(PLpgSQL_plugin **) find_rendezvous_variable("PLpgSQL_plugin") = &plugin;
}

#endif
