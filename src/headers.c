/*
 * headers.c
 *		Headers of a receiver's own, as a row has them.
 *
 * An object of names and values.  They are checked when they are stored, and
 * read by the same code before they are sent.  What each may be is said by
 * compose.c.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "compose.h"
#include "headers.h"

typedef struct Header
{
	const char *name;
	int name_len;
	const char *value;
	int value_len;
} Header;

typedef struct Headers
{
	int n;
	size_t size;
	Header header[OSMTALK_MOST_CUSTOM_HEADERS];
} Headers;

static const char *
add_header(Headers *headers, const JsonbValue *name, const JsonbValue *value)
{
	Header *h = &headers->header[headers->n];
	const char *complaint;

	if (headers->n == OSMTALK_MOST_CUSTOM_HEADERS)
		return "There are too many of them.";
	if (value->type != jbvString)
		return "A value is not a string.";
	h->name = name->val.string.val;
	h->name_len = name->val.string.len;
	h->value = value->val.string.val;
	h->value_len = value->val.string.len;
	if ((complaint = osmtalk_header_complaint(h->name, h->name_len, h->value, h->value_len)) != NULL)
		return complaint;
	/* names are the same whatever their case */
	for (int i = 0; i < headers->n; i++)
		if (headers->header[i].name_len == h->name_len &&
			pg_strncasecmp(headers->header[i].name, h->name, h->name_len) == 0)
			return "A name is there twice.";
	headers->n++;
	headers->size += h->name_len + h->value_len;
	return headers->size > OSMTALK_CUSTOM_HEADERS_LEN ? "They are too long." : NULL;
}

/* The strings point into the jsonb. */
static const char *
parse(Jsonb *jsonb, Headers *headers)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue name, value;
	const char *complaint = NULL;

	headers->n = 0;
	headers->size = 0;
	if (!JB_ROOT_IS_OBJECT(jsonb))
		return "They are not a JSON object.";
	it = JsonbIteratorInit(&jsonb->root);
	(void) JsonbIteratorNext(&it, &value, true);
	while (complaint == NULL && (token = JsonbIteratorNext(&it, &name, true)) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		complaint = add_header(headers, &name, &value);
	}
	return complaint;
}

const char *
osmtalk_read_headers(Jsonb *jsonb, MemoryContext context, char **block, size_t *len)
{
	Headers headers;
	const char *complaint = parse(jsonb, &headers);
	char *p;

	if (complaint != NULL)
		return complaint;
	/* ": " and a NUL each, one more at the end */
	*len = headers.size + headers.n * 3 + 1;
	p = *block = MemoryContextAlloc(context, *len);
	for (int i = 0; i < headers.n; i++)
		p += sprintf(p, "%.*s: %.*s", headers.header[i].name_len, headers.header[i].name,
					 headers.header[i].value_len, headers.header[i].value) +
			1;
	*p = '\0';
	return NULL;
}
