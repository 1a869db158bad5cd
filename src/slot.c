/*
 * slot.c
 *		The worker's slot in shared memory, as its own process writes it.
 *
 * Through it commits wake the worker, the launcher sees how it ended, and
 * sessions see how it is doing.  Knows nothing of what it does.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "slot.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

volatile sig_atomic_t osmtalk_slot_terminated = false;

static OsmtalkSlot *slot;

static void
leave_slot(int code, Datum arg)
{
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot->pid = 0;
	slot->latch = NULL;
	slot->in_flight = 0;
	slot->terminated = osmtalk_slot_terminated;
	if (slot->state == OSMTALK_SLOT_RUNNING || slot->state == OSMTALK_SLOT_STARTING)
		slot->state = OSMTALK_SLOT_STOPPED;
	/* an extension that was created, or sending that was resumed, while this process was about to leave */
	else if (slot->state == OSMTALK_SLOT_NO_EXTENSION && (osmtalk_slot_take_wake() & OSMTALK_WAKE_START) != 0)
		slot->state = OSMTALK_SLOT_WANTED;
	LWLockRelease(osmtalk_shared->lock);
	osmtalk_wake_launcher();
}

bool
osmtalk_slot_enter(Oid database, int number)
{
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot = osmtalk_claim_slot(database, number);
	if (slot == NULL || slot->pid != 0)
	{
		LWLockRelease(osmtalk_shared->lock);
		return false;
	}
	slot->pid = MyProcPid;
	slot->latch = &MyProc->procLatch;
	slot->state = OSMTALK_SLOT_STARTING;
	slot->started_at = GetCurrentTimestamp();
	slot->in_flight = 0;
	slot->terminated = false;
	slot->delivered = slot->failed = 0;
	slot->cannot_record = false;
	LWLockRelease(osmtalk_shared->lock);
	before_shmem_exit(leave_slot, (Datum) 0);
	return true;
}

void
osmtalk_slot_set_state(OsmtalkSlotState state)
{
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot->state = state;
	if (state == OSMTALK_SLOT_RUNNING || state == OSMTALK_SLOT_NO_EXTENSION)
		slot->unfit = false;
	LWLockRelease(osmtalk_shared->lock);
}

uint32
osmtalk_slot_take_wake(void)
{
	return pg_atomic_fetch_and_u32(&slot->wake, OSMTALK_WAKE_LEAVE_ALONE_ANY) & ~OSMTALK_WAKE_LEAVE_ALONE_ANY;
}

bool
osmtalk_slot_is_woken(void)
{
	return (pg_atomic_read_u32(&slot->wake) & ~OSMTALK_WAKE_LEAVE_ALONE_ANY) != 0;
}

uint32
osmtalk_slot_take_left_alone(void)
{
	/* mostly there is none, and this is asked on each turn of the loop */
	if ((pg_atomic_read_u32(&slot->wake) & OSMTALK_WAKE_LEAVE_ALONE_ANY) == 0)
		return 0;
	return pg_atomic_fetch_and_u32(&slot->wake, ~OSMTALK_WAKE_LEAVE_ALONE_ANY) & OSMTALK_WAKE_LEAVE_ALONE_ANY;
}

void
osmtalk_slot_note_error(const char *error)
{
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	strlcpy(slot->last_error, error, pg_mbcliplen(error, strlen(error), sizeof(slot->last_error) - 1) + 1);
	slot->last_error_at = GetCurrentTimestamp();
	slot->unfit = false;
	LWLockRelease(osmtalk_shared->lock);
}

void
osmtalk_slot_note_library(const char *library)
{
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	strlcpy(slot->library, library, sizeof(slot->library));
	LWLockRelease(osmtalk_shared->lock);
}

void
osmtalk_slot_publish(int in_flight, int64 delivered, int64 failed, bool cannot_record)
{
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot->in_flight = in_flight;
	slot->delivered = delivered;
	slot->failed = failed;
	slot->cannot_record = cannot_record;
	LWLockRelease(osmtalk_shared->lock);
}

int
osmtalk_slot_start_failures(void)
{
	return slot->start_failures;
}

void
osmtalk_slot_set_start_failures(int failures)
{
	LWLockAcquire(osmtalk_shared->lock, LW_EXCLUSIVE);
	slot->start_failures = failures;
	LWLockRelease(osmtalk_shared->lock);
}
