/*
 * answer_test.c
 *		Heads of answers: right, cut off anywhere, and what is none.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "check.h"

#define SHOWN(line) (int) strcspn(line, "\r\n"), line

/* What it is after these bytes, line by line, each in a block of exactly its size. */
static OsmtalkHead
after(const char *bytes, size_t len)
{
	OsmtalkHead head = OSMTALK_HEAD_AWAITED;

	while (len > 0)
	{
		const char *end = memchr(bytes, '\n', len);
		size_t		n = end != NULL ? (size_t) (end - bytes) + 1 : len;
		char	   *line = malloc(n);

		if (line == NULL)
			abort();
		memcpy(line, bytes, n);
		/* libcurl hands over whole lines alone */
		if (end != NULL)
			head = osmtalk_head_line(head, line, n);
		free(line);
		bytes += n;
		len -= n;
	}
	return head;
}

static void
test_status_lines(void)
{
	static const char *const good[] = {"HTTP/1.1 200 OK\r\n", "HTTP/1.0 200\r\n", "HTTP/1.1 200 \n", "HTTP/1.1 999 x\r\n", "HTTP/1.1  204\r\n", "HTTP/1.1\t204\tx\r\n",
		"HTTP/1.1 101 Switching Protocols\r\n", "HTTP/1.9 200\r\n", "HTTP/1.1 200"};
	static const char *const interim[] = {"HTTP/1.1 100 Continue\r\n", "HTTP/1.1 103 Early Hints\r\n", "HTTP/1.1 199\r\n"};
	static const char *const bad[] = {"", "\r\n", "\n", "H", "HTTP", "HTTP/", "HTTP/1.", "HTTP/1.1", "HTTP/1.1\r\n", "HTTP/1.1 \r\n", "HTTP/1.1 2\r\n", "HTTP/1.1 20", "HTTP/1.1 20\r\n", "HTTP/1.1 2000 OK\r\n",
		"HTTP/1.1 200OK\r\n", "HTTP/1.1200 OK\r\n", "HTTP/1.1 abc\r\n", "HTTP/1.1 -20\r\n", "HTTP/1.1 000 OK\r\n", "HTTP/1.1 099 OK\r\n", "HTTP/x 200 OK\r\n", "HTTP/1 200 OK\r\n",
		"HTTP/2 200\r\n", "HTTP/9.9 200 OK\r\n", "http/1.1 200 OK\r\n", " HTTP/1.1 200 OK\r\n", "HTTP/ whatever it is\r\n", "HTTP 200 OK\r\n", "ICY 200 OK\r\n", "<html>\r\n"};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(osmtalk_head_line(OSMTALK_HEAD_AWAITED, good[i], strlen(good[i])) == OSMTALK_HEAD_FINAL, "%.*s", SHOWN(good[i]));
	for (size_t i = 0; i < sizeof(interim) / sizeof(interim[0]); i++)
		CHECK(osmtalk_head_line(OSMTALK_HEAD_AWAITED, interim[i], strlen(interim[i])) == OSMTALK_HEAD_INTERIM, "%.*s", SHOWN(interim[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(osmtalk_head_line(OSMTALK_HEAD_AWAITED, bad[i], strlen(bad[i])) == OSMTALK_HEAD_NO_STATUS_LINE, "not a status line: %.*s", SHOWN(bad[i]));
}

static void
test_whole_heads(void)
{
	static const char answer[] = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 0\r\n\r\n";
	static const char trailers[] = "HTTP/1.1 200 OK\n\nHTTP/x: a trailer\n\nX: another\n";
	bool		early = false;

	CHECK(after(answer, strlen(answer)) == OSMTALK_HEAD_COMPLETE, "an answer after interim ones");
	for (size_t i = 0; i < strlen(answer); i++)
		early = early || after(answer, i) == OSMTALK_HEAD_COMPLETE || after(answer, i) == OSMTALK_HEAD_NO_STATUS_LINE;
	CHECK(!early, "is not complete before its last byte");
	CHECK(after(trailers, strlen(trailers)) == OSMTALK_HEAD_COMPLETE, "trailers are no status lines");
	CHECK(after("HTTP/1.1 100 Continue\r\n\r\n", 25) == OSMTALK_HEAD_AWAITED, "interim answers alone are none");
	CHECK(after("HTTP/1.1 100 Continue\r\n\r\nX: y\r\n\r\n", 33) == OSMTALK_HEAD_NO_STATUS_LINE, "nor is what follows them");
}

int
main(void)
{
	test_status_lines();
	test_whole_heads();
	return finish_checks();
}
