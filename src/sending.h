/*
 * sending.h
 *		From the scheduler to HTTP, and back.
 *
 * Knows neither SQL nor libcurl, nor when anything is done.
 */
#ifndef OSMTALK_SENDING_H
#define OSMTALK_SENDING_H

#include "postgres.h"

#include "delivery.h"
#include "utils/timestamp.h"

/* since the worker's start */
extern int64 osmtalk_delivered;
extern int64 osmtalk_failed;

/*
 * Begins requests that have their turn, a few at a time and no more than there
 * is room for; the more answers came at the last look, the fewer.  True if
 * there may be more to begin at once.
 */
extern bool osmtalk_send_ready(OsmtalkScheduler *scheduler, int answers, int room);

/*
 * What has been ready since before that time is to be claimed again, and what could not begin for as long; likewise,
 * however short, what goes to endpoints that are to be left alone.  All that is not begun, if that time is DT_NOEND.
 * False if there is no memory to remember it: the outbox has to be read anew.
 */
extern bool osmtalk_hand_back(OsmtalkScheduler *scheduler, TimestampTz before, uint32 left_alone);

/* Appends deliveries that are over to the results; returns how many. */
extern int osmtalk_collect_results(OsmtalkScheduler *scheduler, dlist_head *results);

/* Those whose requests are made and without an answer, in the current memory context; returns how many. */
extern int osmtalk_unanswered(OsmtalkScheduler *scheduler, OsmtalkDelivery ***deliveries);

#endif
