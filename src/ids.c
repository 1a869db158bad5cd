/*
 * ids.c
 *		Time-ordered ids.
 *
 * Ids of one microsecond are in no order.  A clock that is set back makes ids
 * that sort before earlier ones; that they differ is up to chance alone.
 */
#include <string.h>

#include "ids.h"

/*
 * Base 32, digits before letters and letters of one case: every common
 * collation sorts these as C does, so a B-tree of ids grows at its right edge
 * whatever the database's locale.
 */
static const char digits[] = "0123456789abcdefghijklmnopqrstuv";

void
osmtalk_id_write(const char *prefix, size_t prefix_len, uint64_t microseconds,
				 const uint8_t random[OSMTALK_ID_RANDOM_DIGITS], char *out)
{
	memcpy(out, prefix, prefix_len);
	out += prefix_len;
	*out++ = '_';
	for (int i = OSMTALK_ID_TIME_DIGITS - 1; i >= 0; i--)
		*out++ = digits[(microseconds >> (5 * i)) & 31];
	for (int i = 0; i < OSMTALK_ID_RANDOM_DIGITS; i++)
		*out++ = digits[random[i] & 31];
}
