/*
 * render.c
 *		Text that is the same whatever the session's settings.
 *
 * What payloads are made of: times, strings and jsonb as JSON.  Knows nothing
 * of events.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "common/int.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

PG_FUNCTION_INFO_V1(osmtalk_iso_time);
PG_FUNCTION_INFO_V1(osmtalk_quote_json);
PG_FUNCTION_INFO_V1(osmtalk_compact_json);
PG_FUNCTION_INFO_V1(osmtalk_microseconds_between);

/*
 * ECMAScript's date-time format, which is ISO 8601 with milliseconds and, for
 * years that four digits cannot hold, a sign and six.  Year 0 is 1 BC.
 */
Datum
osmtalk_iso_time(PG_FUNCTION_ARGS)
{
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(0);
	struct pg_tm tm;
	fsec_t fsec;
	int year;
	const char *format;

	/* no zone is asked for, so the result is UTC */
	if (TIMESTAMP_NOT_FINITE(at) || timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		PG_RETURN_NULL();

	year = tm.tm_year; /* astronomical: 0 is 1 BC */
	format = year >= 0 && year <= 9999 ? "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ" : "%+07d-%02d-%02dT%02d:%02d:%02d.%03dZ";
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(format, year, tm.tm_mon, tm.tm_mday,
											  tm.tm_hour, tm.tm_min, tm.tm_sec, (int) (fsec / 1000))));
}

/*
 * What takes more than this as JSON is rendered as null.  Outside data decides
 * these sizes, and a few kilobytes of it can ask for more than a gigabyte
 * (numbers such as 1e131071): the caller's transaction must not fail for it.
 */
#define MOST_RENDERED (16 * 1024 * 1024)

static Datum
json_null(void)
{
	return PointerGetDatum(cstring_to_text("null"));
}

Datum
osmtalk_quote_json(PG_FUNCTION_ARGS)
{
	StringInfoData buf;
	text *value;

	if (PG_ARGISNULL(0))
		return json_null();
	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) > MOST_RENDERED)
		return json_null();
	value = PG_GETARG_TEXT_PP(0);
	initStringInfo(&buf);
	escape_json(&buf, text_to_cstring(value));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}

/*
 * Whether the value's text may be rendered: numbers are the only ones that can
 * take far more room as text than they do in jsonb.
 */
static bool
is_renderable(Jsonb *value)
{
	JsonbIterator *it = JsonbIteratorInit(&value->root);
	JsonbIteratorToken token;
	JsonbValue v;
	Size size = VARSIZE(value);

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		if ((token == WJB_ELEM || token == WJB_VALUE) && v.type == jbvNumeric)
		{
			char *digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));

			size += strlen(digits);
			pfree(digits);
		}
		if (size > MOST_RENDERED)
			return false;
	}
	return true;
}

/*
 * jsonb's own output has a space after each colon and comma; outside strings
 * there is no other.
 */
Datum
osmtalk_compact_json(PG_FUNCTION_ARGS)
{
	StringInfoData buf;
	Jsonb *value;
	char *to;
	bool in_string = false;

	if (PG_ARGISNULL(0))
		return json_null();
	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) > MOST_RENDERED)
		return json_null();
	value = PG_GETARG_JSONB_P(0);
	if (!is_renderable(value))
		return json_null();
	initStringInfo(&buf);
	JsonbToCString(&buf, &value->root, VARSIZE(value));

	to = buf.data;
	for (const char *from = buf.data; *from != '\0'; from++)
	{
		if (in_string)
		{
			if (*from == '\\')
				*to++ = *from++;
			else if (*from == '"')
				in_string = false;
		}
		else if (*from == '"')
			in_string = true;
		else if (*from == ' ')
			continue;
		*to++ = *from;
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, to - buf.data));
}

Datum
osmtalk_microseconds_between(PG_FUNCTION_ARGS)
{
	TimestampTz from = PG_GETARG_TIMESTAMPTZ(0);
	TimestampTz until = PG_GETARG_TIMESTAMPTZ(1);
	int64 difference;

	if (TIMESTAMP_NOT_FINITE(from) || TIMESTAMP_NOT_FINITE(until))
		PG_RETURN_NULL();
	if (pg_sub_s64_overflow(until, from, &difference))
		difference = until > from ? PG_INT64_MAX : PG_INT64_MIN;
	PG_RETURN_INT64(difference);
}
