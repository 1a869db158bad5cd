/*
 * answer.h
 *		Whether the head of an HTTP answer is one, and whole.
 *
 * Plain C: knows nothing of PostgreSQL or libcurl, keeps no state of its own.
 */
#ifndef OSMTALK_ANSWER_H
#define OSMTALK_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

typedef enum OsmtalkHead
{
	OSMTALK_HEAD_AWAITED,		/* a status line comes next */
	OSMTALK_HEAD_INTERIM,		/* in the head of an interim answer, 1xx */
	OSMTALK_HEAD_FINAL,			/* in the head of the answer */
	OSMTALK_HEAD_COMPLETE,		/* it was complete; what follows are trailers */
	OSMTALK_HEAD_NO_STATUS_LINE /* what is there is no HTTP */
} OsmtalkHead;

/*
 * What it is after another line, given with its line break; begins with
 * OSMTALK_HEAD_AWAITED.
 */
extern OsmtalkHead osmtalk_head_line(OsmtalkHead head, const char *line, size_t len);

#endif
