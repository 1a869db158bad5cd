/*
 * answer.c
 *		Whether the head of an HTTP answer is one, and whole.
 *
 * libcurl is too kind for a log of what was delivered: it takes whatever
 * begins with "HTTP/" for a 200, and an answer that ends in the middle of its
 * headers for a complete one.
 */
#include <string.h>

#include "answer.h"

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200 OK", "HTTP/1.0 200": the status; 0 for anything else. */
static int
status_of(const char *line, size_t len)
{
	static const char version[] = "HTTP/1.";
	size_t i = sizeof(version); /* behind the version's last digit */
	int status;

	if (len < i || memcmp(line, version, i - 1) != 0 || !is_digit(line[i - 1]))
		return 0;
	if (i == len || (line[i] != ' ' && line[i] != '\t'))
		return 0;
	while (i < len && (line[i] == ' ' || line[i] == '\t'))
		i++;
	if (len - i < 3 || !is_digit(line[i]) || !is_digit(line[i + 1]) || !is_digit(line[i + 2]))
		return 0;
	if (len - i > 3 && line[i + 3] != ' ' && line[i + 3] != '\t' && line[i + 3] != '\r' && line[i + 3] != '\n')
		return 0;
	status = (line[i] - '0') * 100 + (line[i + 1] - '0') * 10 + line[i + 2] - '0';
	return status >= 100 ? status : 0;
}

static bool
is_blank(const char *line, size_t len)
{
	return (len == 1 && line[0] == '\n') || (len == 2 && line[0] == '\r' && line[1] == '\n');
}

OsmtalkHead
osmtalk_head_line(OsmtalkHead head, const char *line, size_t len)
{
	int status;

	switch (head)
	{
		case OSMTALK_HEAD_AWAITED:
			status = status_of(line, len);
			if (status == 0)
				return OSMTALK_HEAD_NO_STATUS_LINE;
			/* after 101 no other answer comes that we could read */
			return status < 200 && status != 101 ? OSMTALK_HEAD_INTERIM : OSMTALK_HEAD_FINAL;
		case OSMTALK_HEAD_INTERIM:
			return is_blank(line, len) ? OSMTALK_HEAD_AWAITED : head;
		case OSMTALK_HEAD_FINAL:
			return is_blank(line, len) ? OSMTALK_HEAD_COMPLETE : head;
		default:
			return head;
	}
}
