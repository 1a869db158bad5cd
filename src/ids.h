/*
 * ids.h
 *		Time-ordered ids.
 *
 * Plain C: knows nothing of PostgreSQL, the clock or chance.
 */
#ifndef OSMTALK_IDS_H
#define OSMTALK_IDS_H

#include <stddef.h>
#include <stdint.h>

/* 55 bits of time are enough until the year 3111, 80 bits of chance for ever */
#define OSMTALK_ID_TIME_DIGITS 11
#define OSMTALK_ID_RANDOM_DIGITS 16

/* what follows the prefix: an underscore and the digits */
#define OSMTALK_ID_TAIL_LEN (1 + OSMTALK_ID_TIME_DIGITS + OSMTALK_ID_RANDOM_DIGITS)

/*
 * Writes the id of that moment, in microseconds since the Unix epoch: so many
 * bytes as the prefix and the tail have, without a NUL.  Of each random byte
 * five bits count.
 */
extern void osmtalk_id_write(const char *prefix, size_t prefix_len, uint64_t microseconds,
							 const uint8_t random[OSMTALK_ID_RANDOM_DIGITS], char *out);

#endif
