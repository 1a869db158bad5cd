/*
 * answer_fuzz.c
 *		Heads of answers, a line at a time: what is complete has a status line
 *		and ends with an empty line.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	OsmtalkHead head = OSMTALK_HEAD_AWAITED;
	bool		begun = false;

	while (size > 0)
	{
		const uint8_t *end = memchr(data, '\n', size);
		size_t		len = end != NULL ? (size_t) (end - data) + 1 : size;
		char	   *line = malloc(len);
		OsmtalkHead next;

		if (line == NULL)
			abort();
		memcpy(line, data, len);
		next = osmtalk_head_line(head, line, len);
		if (next == OSMTALK_HEAD_FINAL && head == OSMTALK_HEAD_AWAITED)
		{
			begun = true;
			if (len < 12 || memcmp(line, "HTTP/1.", 7) != 0)
				abort();
		}
		if (next == OSMTALK_HEAD_COMPLETE && head != OSMTALK_HEAD_COMPLETE &&
			(!begun || head != OSMTALK_HEAD_FINAL || len > 2 || line[len - 1] != '\n'))
			abort();
		free(line);
		head = next;
		data += len;
		size -= len;
	}
	return 0;
}
