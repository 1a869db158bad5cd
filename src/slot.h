/*
 * slot.h
 *		The worker's slot in shared memory, as its own process writes it.
 */
#ifndef OSMTALK_SLOT_H
#define OSMTALK_SLOT_H

#include "postgres.h"

#include <signal.h>

#include "wakeup.h"

/*
 * Takes that worker's slot for this process until it ends, whichever way;
 * false if another process has it.
 */
extern bool osmtalk_slot_enter(Oid database, int number);

/* To be set when this process is asked to end: then it has not failed to start. */
extern volatile sig_atomic_t osmtalk_slot_terminated;

extern void osmtalk_slot_set_state(OsmtalkSlotState state);

/* What commits have asked for since the last call, OSMTALK_WAKE_START included. */
extern uint32 osmtalk_slot_take_wake(void);
extern bool osmtalk_slot_is_woken(void);

/* And, which the above do not look at, which endpoints are to be left alone: bits as of OSMTALK_WAKE_LEAVE_ALONE(). */
extern uint32 osmtalk_slot_take_left_alone(void);

/* For worker_status and health(). */
extern void osmtalk_slot_note_error(const char *error);
extern void osmtalk_slot_note_library(const char *library);
extern void osmtalk_slot_publish(int in_flight, int64 delivered, int64 failed, bool cannot_record);

/* Workers in succession that could connect and not work. */
extern int osmtalk_slot_start_failures(void);
extern void osmtalk_slot_set_start_failures(int failures);

#endif
