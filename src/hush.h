/*
 * hush.h
 *		Keeps rows that hold secrets out of what the server says.
 */
#ifndef OSMTALK_HUSH_H
#define OSMTALK_HUSH_H

#include "nodes/parsenodes.h"

/* Whether the command is a COPY into a table whose rows hold secrets. */
extern bool osmtalk_is_secret_copy(Node *command);

/*
 * Around such a command: what to give to the second when it is over, and, in
 * its PG_CATCH, what rethrows its error without a line of its input.
 */
extern bool osmtalk_begin_secret_copy(void);
extern void osmtalk_end_secret_copy(bool outer);
extern void osmtalk_rethrow_secret_copy(MemoryContext context, bool outer);

#endif
