/*
 * upkeep.h
 *		What the worker does for its database besides delivering.
 */
#ifndef OSMTALK_UPKEEP_H
#define OSMTALK_UPKEEP_H

typedef enum OsmtalkExpired
{
	OSMTALK_EXPIRED_ALL,
	OSMTALK_EXPIRED_SOME, /* there may be more */
	OSMTALK_EXPIRED_NONE  /* there are some, and none could be decided */
} OsmtalkExpired;

/* Whether somebody has paused sending, see pause(); in its own transaction.  Throws. */
extern bool osmtalk_is_paused(void);

/* Decides calls whose time is up; in its own transaction.  Throws. */
extern OsmtalkExpired osmtalk_expire_calls(void);

/* Says in the log, when it changes, what waits for adopt(); in its own transaction.  Throws. */
extern void osmtalk_report_not_adopted(void);

#endif
