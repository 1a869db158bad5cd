/*
 * subscriptions.h
 *		Whether anybody wants events of calls.
 */
#ifndef OSMTALK_SUBSCRIPTIONS_H
#define OSMTALK_SUBSCRIPTIONS_H

#include "postgres.h"

/*
 * False if no organisation and no campaign of this database wants call.started,
 * call.completed or call.failed: then a call has nothing more to see to.
 * Mostly it is known without a look.
 */
extern bool osmtalk_call_events_wanted(void);

#endif
