/*
 * headers.h
 *		Headers of a receiver's own, as a row has them.
 */
#ifndef OSMTALK_HEADERS_H
#define OSMTALK_HEADERS_H

#include "postgres.h"

#include "utils/jsonb.h"

/* names and values together */
#define OSMTALK_MOST_CUSTOM_HEADERS 16
#define OSMTALK_CUSTOM_HEADERS_LEN 4096

/*
 * Reads them as compose.h wants them, into a block of that memory context, and
 * says how long it is; it may hold a token, and is the caller's to wipe.
 * Returns NULL, or why they cannot be sent, without showing any, and then there
 * is no block.
 */
extern PGDLLEXPORT const char *osmtalk_read_headers(Jsonb *headers, MemoryContext context, char **block, size_t *len);

#endif
