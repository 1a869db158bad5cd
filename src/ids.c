/*
 * ids.c
 *		Time-ordered ids, and the identity of a database.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

PG_FUNCTION_INFO_V1(osmtalk_new_id);
PG_FUNCTION_INFO_V1(osmtalk_current_origin);

/* 55 bits of time are enough until the year 3111, 80 bits of chance for ever */
#define TIME_DIGITS 11
#define RANDOM_DIGITS 16

/*
 * Base 32, digits before letters and letters of one case: every common
 * collation sorts these as C does, so a B-tree of ids grows at its right edge
 * whatever the database's locale.
 */
static const char digits[] = "0123456789abcdefghijklmnopqrstuv";

Datum
osmtalk_new_id(PG_FUNCTION_ARGS)
{
	text *prefix = PG_GETARG_TEXT_PP(0);
	size_t prefix_len = VARSIZE_ANY_EXHDR(prefix);
	size_t len = prefix_len + 1 + TIME_DIGITS + RANDOM_DIGITS;
	text *result = palloc(VARHDRSZ + len);
	char *p = VARDATA(result);
	uint64 microseconds;
	uint8 random[RANDOM_DIGITS];

	/* since the Unix epoch, so that it does not become negative */
	microseconds = (uint64) (GetCurrentTimestamp() +
							 (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY);
	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				errcode(ERRCODE_INTERNAL_ERROR),
				errmsg("could not generate random values"));

	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(p, VARDATA_ANY(prefix), prefix_len);
	p += prefix_len;
	*p++ = '_';
	for (int i = TIME_DIGITS - 1; i >= 0; i--)
		*p++ = digits[(microseconds >> (5 * i)) & 31];
	for (int i = 0; i < RANDOM_DIGITS; i++)
		*p++ = digits[random[i] & 31];
	PG_RETURN_TEXT_P(result);
}

/*
 * A restored dump, a TEMPLATE copy and an upgraded cluster differ in one of
 * the two parts; a physical copy does not, and cannot be told from a failover.
 */
Datum
osmtalk_current_origin(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId)));
}
