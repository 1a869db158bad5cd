/*
 * render.c
 *		Text that is the same whatever the session's settings.
 *
 * What bodies are made of: times, strings and jsonb as JSON, and how a body is
 * kept within osmtalk.max_payload.  Data from outside decides the sizes, and a
 * few kilobytes of it can ask for more than a gigabyte (numbers such as
 * 1e131071), so nothing is rendered further than it can be of use.  Knows
 * nothing of events.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "fault.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "settings.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

PG_FUNCTION_INFO_V1(osmtalk_iso_time);
PG_FUNCTION_INFO_V1(osmtalk_render);
PG_FUNCTION_INFO_V1(osmtalk_microseconds_between);

/* ---- times ---- */

#define TIME_LEN sizeof("+294276-12-31T23:59:59.999Z")

/*
 * ECMAScript's date-time format, which is ISO 8601 with milliseconds and, for
 * years that four digits cannot hold, a sign and six.  Year 0 is 1 BC.  False
 * for an infinite time.
 */
static bool
format_time(TimestampTz at, char out[TIME_LEN])
{
	struct pg_tm tm;
	fsec_t fsec;
	int year;
	const char *format;

	/* no zone is asked for, so the result is UTC */
	if (TIMESTAMP_NOT_FINITE(at) || timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		return false;

	year = tm.tm_year; /* astronomical: 0 is 1 BC */
	format = year >= 0 && year <= 9999 ? "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ" : "%+07d-%02d-%02dT%02d:%02d:%02d.%03dZ";
	snprintf(out, TIME_LEN, format, year, tm.tm_mon, tm.tm_mday,
			 tm.tm_hour, tm.tm_min, tm.tm_sec, (int) (fsec / 1000));
	return true;
}

Datum
osmtalk_iso_time(PG_FUNCTION_ARGS)
{
	char time[TIME_LEN];

	if (!format_time(PG_GETARG_TIMESTAMPTZ(0), time))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(time));
}

/* ---- values as JSON; each appends, and is false once there is more than the limit ---- */

static bool
append_bytes(StringInfo buf, const char *bytes, int len, int limit)
{
	if (len > limit - buf->len)
		return false;
	appendBinaryStringInfo(buf, bytes, len);
	return true;
}

static const char *
escape_of(unsigned char c, char out[8])
{
	switch (c)
	{
		case '"':
			return "\\\"";
		case '\\':
			return "\\\\";
		case '\b':
			return "\\b";
		case '\f':
			return "\\f";
		case '\n':
			return "\\n";
		case '\r':
			return "\\r";
		case '\t':
			return "\\t";
		default:
			snprintf(out, 8, "\\u%04x", c);
			return out;
	}
}

/* As a JSON string, non-ASCII characters raw. */
static bool
append_string(StringInfo buf, const char *value, int len, int limit)
{
	const char *end = value + len;
	char out[8];

	if (!append_bytes(buf, "\"", 1, limit))
		return false;
	while (value < end)
	{
		const char *run = value;

		while (value < end && (unsigned char) *value >= ' ' && *value != '"' && *value != '\\')
			value++;
		if (!append_bytes(buf, run, value - run, limit))
			return false;
		if (value < end)
		{
			const char *escape = escape_of((unsigned char) *value++, out);

			if (!append_bytes(buf, escape, strlen(escape), limit))
				return false;
		}
	}
	return append_bytes(buf, "\"", 1, limit);
}

static bool
append_cstring(StringInfo buf, const char *text, int limit)
{
	return append_bytes(buf, text, strlen(text), limit);
}

/* One number has at most 131,072 digits before its point and 16,383 after it. */
static bool
append_numeric(StringInfo buf, Numeric value, int limit)
{
	char *digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value)));
	bool fits = append_cstring(buf, digits, limit);

	pfree(digits);
	return fits;
}

static bool
append_scalar(StringInfo buf, const JsonbValue *v, int limit)
{
	switch (v->type)
	{
		case jbvString:
			return append_string(buf, v->val.string.val, v->val.string.len, limit);
		case jbvNumeric:
			return append_numeric(buf, v->val.numeric, limit);
		case jbvBool:
			return append_cstring(buf, v->val.boolean ? "true" : "false", limit);
		default:
			return append_cstring(buf, "null", limit);
	}
}

/*
 * Without whitespace outside strings, which jsonb's own output has.  However
 * deep it is, this does not recurse.
 */
static bool
append_jsonb(StringInfo buf, Jsonb *value, int limit)
{
	JsonbIterator *it = JsonbIteratorInit(&value->root);
	JsonbIteratorToken token;
	JsonbValue v;
	bool scalar = JB_ROOT_IS_SCALAR(value);
	bool first = true; /* of its array or object, or the value of a key */

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		bool ends = token == WJB_END_ARRAY || token == WJB_END_OBJECT;
		bool fits = true;

		if (scalar && token != WJB_ELEM)
			continue;
		if (!first && !ends)
			fits = append_bytes(buf, ",", 1, limit);
		first = token == WJB_BEGIN_ARRAY || token == WJB_BEGIN_OBJECT || token == WJB_KEY;
		switch (token)
		{
			case WJB_BEGIN_ARRAY:
				fits = fits && append_bytes(buf, "[", 1, limit);
				break;
			case WJB_END_ARRAY:
				fits = append_bytes(buf, "]", 1, limit);
				break;
			case WJB_BEGIN_OBJECT:
				fits = fits && append_bytes(buf, "{", 1, limit);
				break;
			case WJB_END_OBJECT:
				fits = append_bytes(buf, "}", 1, limit);
				break;
			case WJB_KEY:
				fits = fits && append_scalar(buf, &v, limit) && append_bytes(buf, ":", 1, limit);
				break;
			default:
				fits = fits && append_scalar(buf, &v, limit);
		}
		if (!fits)
			return false;
	}
	return true;
}

/* ---- bodies ---- */

#define MOST_VALUES 32
#define TRUNCATED ",\"truncated\":true}"

typedef struct Value
{
	Datum datum;
	Oid type;
	bool is_null;
	bool first_to_go;
	int size; /* as JSON, or one more than can be of use */
} Value;

typedef struct Body
{
	const char *pattern;
	int pattern_len;
	int nvalues;
	Value values[MOST_VALUES];
} Body;

/*
 * What is too long is not even fetched: a string takes no less as JSON than it
 * has bytes, and jsonb no less than an eighth of its size ("1," has two bytes
 * for twelve of jsonb's).
 */
static bool
is_hopeless(const Value *value, int room)
{
	Size size;

	if (value->type != TEXTOID && value->type != JSONBOID)
		return false;
	size = toast_raw_datum_size(value->datum) - VARHDRSZ;
	return (value->type == TEXTOID ? size : size / 8) > (Size) Max(room, 0);
}

static bool
append_value(StringInfo buf, const Value *value, int limit)
{
	char time[TIME_LEN];
	char digits[12];

	if (value->is_null)
		return append_cstring(buf, "null", limit);
	if (is_hopeless(value, limit - buf->len))
		return false;
	switch (value->type)
	{
		case TEXTOID:
		{
			text *string = DatumGetTextPP(value->datum);

			return append_string(buf, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string), limit);
		}
		case JSONBOID:
			return append_jsonb(buf, DatumGetJsonbP(value->datum), limit);
		case TIMESTAMPTZOID:
			if (!format_time(DatumGetTimestampTz(value->datum), time))
				return append_cstring(buf, "null", limit);
			return append_string(buf, time, strlen(time), limit);
		case NUMERICOID:
			return append_numeric(buf, DatumGetNumeric(value->datum), limit);
		case INT4OID:
			snprintf(digits, sizeof(digits), "%d", DatumGetInt32(value->datum));
			return append_cstring(buf, digits, limit);
		default:
			elog(ERROR, "a value of a body has an unexpected type");
	}
}

/* The arguments: a pattern, and a value for each "?" and "*" in it. */
static void
read_arguments(Body *body, FunctionCallInfo fcinfo)
{
	text *pattern = PG_GETARG_TEXT_PP(0);

	body->pattern = VARDATA_ANY(pattern);
	body->pattern_len = VARSIZE_ANY_EXHDR(pattern);
	body->nvalues = 0;
	for (int i = 0; i < body->pattern_len; i++)
	{
		Value *value;
		int arg;

		if (body->pattern[i] != '?' && body->pattern[i] != '*')
			continue;
		arg = body->nvalues + 1;
		if (arg > MOST_VALUES || arg >= PG_NARGS())
			elog(ERROR, "a body's pattern has more places than there are values");
		value = &body->values[body->nvalues++];
		value->first_to_go = body->pattern[i] == '*';
		value->type = get_fn_expr_argtype(fcinfo->flinfo, arg);
		value->is_null = PG_ARGISNULL(arg);
		value->datum = value->is_null ? (Datum) 0 : PG_GETARG_DATUM(arg);
	}
	if (PG_NARGS() != body->nvalues + 1)
		elog(ERROR, "a body's pattern has fewer places than there are values");
}

/* The whole text, which begins with the header of a varlena. */
static bool
append_body(StringInfo buf, const Body *body, bool truncated, int limit)
{
	const Value *value = body->values;
	const char *end = body->pattern + body->pattern_len - 1; /* the closing brace */
	const char *run = body->pattern;

	resetStringInfo(buf);
	appendStringInfoSpaces(buf, VARHDRSZ);
	limit += VARHDRSZ;
	for (const char *p = run; p < end; p++)
	{
		if (*p != '?' && *p != '*')
			continue;
		if (!append_bytes(buf, run, p - run, limit) || !append_value(buf, value++, limit))
			return false;
		run = p + 1;
	}
	return append_bytes(buf, run, end - run, limit) && append_cstring(buf, truncated ? TRUNCATED : "}", limit);
}

/* The largest value, of those that are first to go or of the other strings; NULL if there is none left. */
static Value *
largest(Body *body, bool first_to_go)
{
	Value *found = NULL;

	for (int i = 0; i < body->nvalues; i++)
	{
		Value *value = &body->values[i];

		if (value->first_to_go == first_to_go && (first_to_go || value->type == TEXTOID) &&
			value->size > (int) strlen("null") && (found == NULL || value->size > found->size))
			found = value;
	}
	return found;
}

/*
 * Sets values to null until the body fits.  Those that exceed the limit by
 * themselves have to go in any case, so that it does not matter by how much.
 */
static void
truncate_body(StringInfo buf, Body *body, int limit)
{
	int64 size = body->pattern_len - 1 - body->nvalues + strlen(TRUNCATED);
	Value *value;

	for (int i = 0; i < body->nvalues; i++)
	{
		value = &body->values[i];
		resetStringInfo(buf);
		value->size = append_value(buf, value, limit) ? buf->len : limit + 1;
		size += value->size;
	}
	while (size > limit &&
		   ((value = largest(body, true)) != NULL || (value = largest(body, false)) != NULL))
	{
		size -= value->size - (int) strlen("null");
		value->size = strlen("null");
		value->is_null = true;
	}
}

/*
 * render(pattern, VARIADIC values)
 *
 * The pattern is a JSON object with a place for each value: "*" for those that
 * are set to null first when the body would be too large, the largest first;
 * "?" for the others, of which the strings follow if that is not enough.  So
 * every body fits: osmtalk.max_payload has room for one of nulls.
 */
Datum
osmtalk_render(PG_FUNCTION_ARGS)
{
	StringInfoData buf;
	Body body;

	osmtalk_fault_at_step("render");
	read_arguments(&body, fcinfo);
	initStringInfo(&buf);
	if (!append_body(&buf, &body, false, osmtalk_max_payload))
	{
		truncate_body(&buf, &body, osmtalk_max_payload);
		if (!append_body(&buf, &body, true, osmtalk_max_payload))
			elog(ERROR, "a body without its values does not fit into osmtalk.max_payload");
	}
	SET_VARSIZE(buf.data, buf.len);
	PG_RETURN_TEXT_P((text *) buf.data);
}

/* ---- durations ---- */

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
