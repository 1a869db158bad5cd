/*
 * preview.c
 *		A request that is not made: its headers, and a command that would make it.
 *
 * Signs, and has the headers, as the worker does.  In C, because no statement
 * may have a secret or a URL among its parameters: they could be logged.  Knows
 * nothing of calls and events.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "compose.h"
#include "fmgr.h"
#include "funcapi.h"
#include "headers.h"
#include "lib/stringinfo.h"
#include "settings.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

PG_FUNCTION_INFO_V1(osmtalk_request_headers);
PG_FUNCTION_INFO_V1(osmtalk_curl_command);

/* one argument of a program may have 128 kB in Linux, including its NUL */
#define LONGEST_ARGUMENT 100000

/* ---- headers ---- */

static bool
add_header(void *arg, const char *header)
{
	ArrayBuildState **headers = arg;

	*headers = accumArrayResult(*headers, CStringGetTextDatum(header), false, TEXTOID, CurrentMemoryContext);
	return true;
}

/* A copy that is the caller's to wipe; none is left elsewhere. */
static char *
copy_of(Datum secret)
{
	text *plain = DatumGetTextPP(secret);
	char *copy = text_to_cstring(plain);

	if ((Pointer) plain != DatumGetPointer(secret))
		OPENSSL_cleanse(VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain));
	return copy;
}

static bool
is_too_long(Datum secret)
{
	return toast_raw_datum_size(secret) - VARHDRSZ > OSMTALK_LONGEST_SECRET;
}

/* Those that were replaced: they sign in the form of Standard Webhooks alone. */
static void
add_previous(OsmtalkMessage *message, ArrayType *secrets)
{
	Datum *elements;
	bool *nulls;
	int n;

	deconstruct_array(secrets, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < n && message->nprevious < OSMTALK_MOST_PREVIOUS; i++)
		if (!nulls[i] && !is_too_long(elements[i]))
			message->previous[message->nprevious++] = copy_of(elements[i]);
}

/*
 * As the worker signs, and refuses to.  Returns NULL, or why there can be no
 * signature.
 */
static const char *
sign(OsmtalkMessage *message, Datum secret, ArrayType *previous, OsmtalkSignatures *signatures)
{
	bool ok;

	/* a long one need not be read to be refused */
	if (is_too_long(secret))
		return psprintf("the webhook secret is longer than %d bytes", OSMTALK_LONGEST_SECRET);
	message->secret = copy_of(secret);
	if (message->standard && previous != NULL)
		add_previous(message, previous);
	ok = osmtalk_sign_message(message, signatures);
	OPENSSL_cleanse(unconstify(char *, message->secret), strlen(message->secret));
	for (int i = 0; i < message->nprevious; i++)
		OPENSSL_cleanse(unconstify(char *, message->previous[i]), strlen(message->previous[i]));
	return ok ? NULL : "the body could not be signed";
}

/*
 * Headers of the receiver's own may hold tokens, which whoever may see this may
 * write and not read: their names are shown.  Returns NULL, or why there can be
 * no request.
 */
static const char *
read_custom(OsmtalkMessage *message, Jsonb *jsonb)
{
	StringInfoData shown;
	char *block;
	size_t len;

	if (osmtalk_read_headers(jsonb, CurrentMemoryContext, &block, &len) != NULL)
		return "the webhook headers are not valid";
	initStringInfo(&shown);
	for (char *p = block; *p != '\0'; p += strlen(p) + 1)
	{
		appendStringInfo(&shown, "%.*s: ...", (int) strcspn(p, ":"), p);
		appendStringInfoChar(&shown, '\0');
	}
	appendStringInfoChar(&shown, '\0');
	OPENSSL_cleanse(block, len);
	message->custom = shown.data;
	return NULL;
}

/* request_headers(event_id, body, secret, previous_secrets, custom, OUT headers, OUT problem) */
Datum
osmtalk_request_headers(PG_FUNCTION_ARGS)
{
	ArrayBuildState *headers = NULL;
	OsmtalkMessage message = {0};
	OsmtalkSignatures signatures = {0};
	const char *problem = NULL;
	TupleDesc desc;
	Datum values[2] = {0};
	bool isnull[2] = {true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	message.event_id = TextDatumGetCString(PG_GETARG_DATUM(0));
	message.body = TextDatumGetCString(PG_GETARG_DATUM(1));
	message.body_len = strlen(message.body);
	message.standard = osmtalk_standard_webhooks_headers;
	message.timestamp = timestamptz_to_time_t(GetCurrentTimestamp());
	if (!osmtalk_is_event_id(message.event_id))
		problem = "the event's id cannot be sent in a header";
	if (problem == NULL && !PG_ARGISNULL(2))
		problem = sign(&message, PG_GETARG_DATUM(2), PG_ARGISNULL(3) ? NULL : PG_GETARG_ARRAYTYPE_P(3), &signatures);
	if (problem == NULL && !PG_ARGISNULL(4))
		problem = read_custom(&message, PG_GETARG_JSONB_P(4));

	if (problem != NULL)
		values[1] = CStringGetTextDatum(problem);
	else
	{
		(void) osmtalk_compose_headers(&message, &signatures, add_header, &headers);
		(void) add_header(&headers, "User-Agent: " OSMTALK_USER_AGENT);
		values[0] = makeArrayResult(headers, CurrentMemoryContext);
	}
	isnull[0] = problem != NULL;
	isnull[1] = problem == NULL;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull)));
}

/* ---- a command ---- */

/* As one word of a POSIX shell, whatever is in it: a quote is written between two quoted parts. */
static void
append_word(StringInfo buf, const char *word, int len)
{
	const char *end = word + len;

	appendStringInfoChar(buf, '\'');
	while (word < end)
	{
		const char *quote = memchr(word, '\'', end - word);
		const char *until = quote != NULL ? quote : end;

		appendBinaryStringInfo(buf, word, until - word);
		if (quote != NULL)
			appendStringInfoString(buf, "'\\''");
		word = until + (quote != NULL);
	}
	appendStringInfoChar(buf, '\'');
}

static void
append_text(StringInfo buf, Datum datum)
{
	text *word = DatumGetTextPP(datum);

	append_word(buf, VARDATA_ANY(word), VARSIZE_ANY_EXHDR(word));
}

/*
 * curl_command(url, headers, body)
 *
 * libcurl is told the same by the program as by the worker: to take the URL as
 * it is, not to ask first whether a body is welcome, and to look neither into
 * the environment nor into files of the user's.  A body that begins
 * with "@" would be the name of a file, and one that is too long for an argument
 * would keep the program from being run: these come from the shell's own printf.
 */
Datum
osmtalk_curl_command(PG_FUNCTION_ARGS)
{
	ArrayType *headers = PG_GETARG_ARRAYTYPE_P(1);
	text *body = PG_GETARG_TEXT_PP(2);
	int len = VARSIZE_ANY_EXHDR(body);
	bool piped = len > LONGEST_ARGUMENT || (len > 0 && *VARDATA_ANY(body) == '@');
	StringInfoData buf;
	Datum *elements;
	bool *nulls;
	int n;

	initStringInfo(&buf);
	if (piped)
	{
		appendStringInfoString(&buf, "printf %s ");
		append_word(&buf, VARDATA_ANY(body), len);
		appendStringInfoString(&buf, " | ");
	}
	appendStringInfoString(&buf, "curl -q");
	if (osmtalk_proxy[0] != '\0')
	{
		appendStringInfoString(&buf, " --noproxy '' --proxytunnel --proxy ");
		append_word(&buf, osmtalk_proxy, strlen(osmtalk_proxy));
	}
	else
		appendStringInfoString(&buf, " --noproxy '*'");
	appendStringInfoString(&buf, " --include --globoff --http1.1 --header Expect:");
	deconstruct_array(headers, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
		{
			appendStringInfoString(&buf, " --header ");
			append_text(&buf, elements[i]);
		}
	appendStringInfoString(&buf, " --data-binary ");
	if (piped)
		appendStringInfoString(&buf, "@-");
	else
		append_word(&buf, VARDATA_ANY(body), len);
	appendStringInfoChar(&buf, ' ');
	append_text(&buf, PG_GETARG_DATUM(0));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}
