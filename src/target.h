/*
 * target.h
 *		The URL of a request, as libcurl reads it.
 */
#ifndef OSMTALK_TARGET_H
#define OSMTALK_TARGET_H

typedef enum OsmtalkTarget
{
	OSMTALK_TARGET_NONE, /* no request goes there */
	OSMTALK_TARGET_HTTP,
	OSMTALK_TARGET_HTTPS
} OsmtalkTarget;

/*
 * What the URL is to osmtalk and to libcurl, which makes the request: nothing
 * unless both have no objection.  Nor if memory runs out.
 */
extern OsmtalkTarget osmtalk_target_read(const char *url);

#endif
