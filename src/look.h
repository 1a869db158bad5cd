/*
 * look.h
 *		What is in the outbox, for the scheduler.
 */
#ifndef OSMTALK_LOOK_H
#define OSMTALK_LOOK_H

#include "postgres.h"

#include "scheduler.h"

typedef struct OsmtalkLook
{
	/* wanted */
	bool reload;		/* look at all there is, not only at what is new */
	bool check_overdue; /* are calls overdue, is a redelivery under way? */
	bool check_adopted; /* have rows of another database come? */
	bool check_paused;	/* is sending paused? */
	bool check_waiting; /* can events go that wait? */

	/* found */
	bool overdue;
	bool not_adopted;
	bool paused;
	bool releasable; /* some of those that wait can */
	bool redeliveries;
	bool waiting; /* rows have come into their queue that may not be known */
	bool more;	  /* there is more to look at: the next look goes on */
} OsmtalkLook;

/* Finds what has come since the last look, in the current transaction. */
extern void osmtalk_look(OsmtalkLook *look, OsmtalkScheduler *scheduler);

#endif
