/*
 * wakeup.h
 *		What sessions, the launcher and the workers share.
 */
#ifndef OSMTALK_WAKEUP_H
#define OSMTALK_WAKEUP_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

/* what a commit asks of its database's worker, or of the launcher; bits */
#define OSMTALK_WAKE_LOOK 0x01	   /* the outbox has new rows */
#define OSMTALK_WAKE_RELOAD 0x02   /* the outbox has rows that are not new: read all of it */
#define OSMTALK_WAKE_START 0x04	   /* the extension was created, or sending resumed: a worker is wanted */
#define OSMTALK_WAKE_LAUNCHER 0x08 /* the databases have changed */
#define OSMTALK_WAKE_PAUSE 0x10	   /* sending was paused, or is no more: look which */
#define OSMTALK_WAKE_WAITING 0x40  /* events that wait may go */
#define OSMTALK_WAKE_UPDATE 0x20   /* the extension was updated: START, but a worker will find out by itself */

/*
 * The other bits: an endpoint of that hash, or of another that has the same bit, is to be left alone.  What is claimed
 * for it and not begun is to be claimed again, and waits then.
 */
#define OSMTALK_WAKE_LEAVE_ALONE(hash) (UINT32_C(0x100) << ((uint64) (hash) % 24))
#define OSMTALK_WAKE_LEAVE_ALONE_ANY UINT32_C(0xffffff00)

typedef enum OsmtalkSlotState
{
	OSMTALK_SLOT_WANTED,   /* to be started by the launcher */
	OSMTALK_SLOT_STARTING, /* started, not yet at work */
	OSMTALK_SLOT_RUNNING,
	OSMTALK_SLOT_NO_EXTENSION, /* looked: no worker is wanted, for the database does not have the extension, or is paused */
	OSMTALK_SLOT_STOPPED,	   /* the worker ended; the launcher will see to it */
	OSMTALK_SLOT_NO_PROCESS	   /* no background worker is free */
} OsmtalkSlotState;

#define OSMTALK_ERROR_LEN 256
#define OSMTALK_LIBRARY_LEN 256

/*
 * One per worker that there is, or may be: of number 0 in each database, and
 * of the numbers below osmtalk.workers where that one is at work.  Protected by the shared
 * lock, but for "wake", and for what commits read without it: "database" and
 * "latch" (a latch of a process that is gone may be set without harm).
 */
typedef struct OsmtalkSlot
{
	Oid database; /* InvalidOid: the slot is free */
	int number;
	OsmtalkSlotState state;
	pid_t pid; /* of the worker, 0 when there is none */
	Latch *latch;
	pg_atomic_uint32 wake; /* all but OSMTALK_WAKE_LAUNCHER */
	pid_t holder;		   /* the session whose DDL needs the database free of its worker */
	bool terminated;	   /* the last worker was made to end, by whomever: that is no failure */
	int start_failures;	   /* workers in succession that could connect and not work */
	bool unfit;			   /* the last worker could not serve the database as it is, see last_error */

	/* the worker's figures since its start */
	TimestampTz started_at;
	int in_flight;
	int64 delivered;
	int64 failed;
	bool cannot_record;		   /* results wait because they cannot be written */
	TimestampTz last_error_at; /* 0: none */
	char last_error[OSMTALK_ERROR_LEN];
	char library[OSMTALK_LIBRARY_LEN]; /* what the last worker sends with; "" if there was none */
} OsmtalkSlot;

typedef struct OsmtalkShared
{
	LWLock *lock;
	Latch *launcher_latch;			/* NULL while there is no launcher */
	pg_atomic_uint32 launcher_wake; /* OSMTALK_WAKE_LAUNCHER; OSMTALK_WAKE_START: by one that found no slot */
	int nslots;
	OsmtalkSlot slots[FLEXIBLE_ARRAY_MEMBER];
} OsmtalkShared;

/*
 * What must be the same in both libraries: the one that was preloaded may be
 * older than the worker's, which is read from the disk at each start of one.
 */
typedef struct OsmtalkBuild
{
	char version[32]; /* first, whatever becomes of the rest */
	uint32 shared_size;
	uint32 slot_size;
} OsmtalkBuild;

#define OSMTALK_BUILD                                               \
	{                                                               \
		OSMTALK_VERSION, sizeof(OsmtalkShared), sizeof(OsmtalkSlot) \
	}

/* NULL unless the library was preloaded */
extern PGDLLEXPORT OsmtalkShared *osmtalk_shared;

extern void osmtalk_define_shared_memory(void);
extern void osmtalk_wake_at_commit(uint32 wake);

/*
 * Asks the database's workers to leave, and keeps the launcher from starting
 * others until this transaction is over.  Does not wait.
 */
extern void osmtalk_hold_database(Oid database);

/* These want the lock held. */
extern PGDLLEXPORT OsmtalkSlot *osmtalk_find_slot(Oid database, int number);
extern PGDLLEXPORT OsmtalkSlot *osmtalk_claim_slot(Oid database, int number);

/*
 * Notes, for worker_status, why that worker cannot serve its database, until
 * one can.  True if that is news, for the log.
 */
extern PGDLLEXPORT bool osmtalk_note_unfit(Oid database, int number, const char *reason);

extern PGDLLEXPORT bool osmtalk_slot_is_held(OsmtalkSlot *slot);
extern PGDLLEXPORT void osmtalk_wake_launcher(void);

#endif
