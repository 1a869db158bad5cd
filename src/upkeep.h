/*
 * upkeep.h
 *		What the worker does for its database besides delivering.
 */
#ifndef OSMTALK_UPKEEP_H
#define OSMTALK_UPKEEP_H

/* calls are looked at for having become overdue this often, or more often */
#define OSMTALK_OVERDUE_INTERVAL_MS 1000

/* Whether somebody has paused sending, see pause(); in its own transaction.  Throws. */
extern bool osmtalk_is_paused(void);

/*
 * Decides calls whose time is up; returns after how many milliseconds they are
 * to be looked at again.
 */
extern long osmtalk_expire_calls(void);

/* Says in the log, when it changes, what waits for adopt(). */
extern void osmtalk_report_not_adopted(void);

#endif
