/*
 * lookup.c
 *		One row by its primary key, without the executor.
 *
 * A nested statement that fetches one row costs several times the fetch.  This
 * does what the statement would: with a snapshot of its own, through the index
 * of the primary key, and, where the row is locked, as the executor locks it.
 * But for privileges: this is for functions that run with the owner's rights,
 * and whoever has not got these is refused.  Knows nothing of what the rows
 * mean.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "fault.h"
#include "lookup.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static Relation
open_table(const char *name, LOCKMODE lock)
{
	Oid oid = get_relname_relid(name, osmtalk_installation());
	Relation table;

	osmtalk_fault_at_step(name);
	if (!OidIsValid(oid))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("relation \"osmtalk.%s\" does not exist", name));
	table = table_open(oid, lock);
	if (table->rd_rel->relowner != GetUserId() && !has_privs_of_role(GetUserId(), table->rd_rel->relowner))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for table %s", name));
	return table;
}

static IndexScanDesc
begin_scan(Relation table, Relation index, Snapshot snapshot, ScanKey keys, int nkeys)
{
	IndexScanDesc scan;

#if PG_VERSION_NUM >= 180000
	scan = index_beginscan(table, index, snapshot, NULL, nkeys, 0);
#else
	scan = index_beginscan(table, index, snapshot, nkeys, 0);
#endif
	index_rescan(scan, keys, nkeys, NULL, 0);
	return scan;
}

/* Puts the row that the snapshot sees into the slot. */
static bool
find_row(Relation table, Datum key, Snapshot snapshot, TupleTableSlot *slot)
{
	Oid index_oid;
	Relation index;
	IndexScanDesc scan;
	ScanKeyData scan_key;
	bool found;

	/* as RelationGetPrimaryKeyIndex() does, whose arguments differ between versions */
	if (!table->rd_indexvalid)
		list_free(RelationGetIndexList(table));
	index_oid = table->rd_pkindex;
	if (!OidIsValid(index_oid))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("table \"%s\" has no primary key", RelationGetRelationName(table)));
	index = index_open(index_oid, AccessShareLock);
	if (IndexRelationGetNumberOfKeyAttributes(index) != 1 || index->rd_opcintype[0] != TEXTOID)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("the primary key of table \"%s\" is not a text", RelationGetRelationName(table)));
	ScanKeyEntryInitialize(&scan_key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   index->rd_indcollation[0], F_TEXTEQ, key);
	scan = begin_scan(table, index, snapshot, &scan_key, 1);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	index_endscan(scan);
	index_close(index, NoLock);
	return found;
}

/* What SPI does for a statement of a volatile function. */
static Snapshot
push_snapshot(void)
{
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	return GetActiveSnapshot();
}

bool
osmtalk_lookup(const char *name, Datum key, OsmtalkColumn *columns, int ncolumns,
			   Datum *values, bool *isnull, Datum *row)
{
	Relation table = open_table(name, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(table, NULL);
	bool found = find_row(table, key, push_snapshot(), slot);

	if (found)
	{
		HeapTuple tuple = ExecCopySlotHeapTuple(slot);

		osmtalk_read_row(tuple, RelationGetDescr(table), columns, ncolumns, values, isnull);
		if (row != NULL)
			*row = osmtalk_row_datum(tuple, RelationGetDescr(table));
	}
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(slot);
	table_close(table, NoLock);
	return found;
}

static bool
has_text(TupleTableSlot *slot, OsmtalkColumn *column, Datum value)
{
	Datum is;
	bool isnull, found;
	HeapTuple tuple = ExecCopySlotHeapTuple(slot);

	osmtalk_read_row(tuple, slot->tts_tupleDescriptor, column, 1, &is, &isnull);
	found = !isnull && datum_image_eq(is, value, false, -1);
	pfree(tuple);
	return found;
}

bool
osmtalk_lock(const char *name, Datum key, OsmtalkColumn *key_column,
			 Datum value, OsmtalkColumn *value_column)
{
	Relation table = open_table(name, RowShareLock);
	TupleTableSlot *slot = table_slot_create(table, NULL);
	Snapshot snapshot = push_snapshot();
	bool found = find_row(table, key, snapshot, slot) && has_text(slot, value_column, value);

	if (found)
	{
		ItemPointerData tid = slot->tts_tid;
		TM_FailureData failure;
		uint8 flags = TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;

		if (!IsolationUsesXactSnapshot())
			flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
		switch (table_tuple_lock(table, &tid, snapshot, slot, GetCurrentCommandId(true),
								 LockTupleNoKeyExclusive, LockWaitBlock, flags, &failure))
		{
			case TM_Ok:
				/* what another session has committed meanwhile may be another row's */
				found = !failure.traversed ||
					(has_text(slot, key_column, key) && has_text(slot, value_column, value));
				break;
			case TM_Updated:
			case TM_Deleted:
				if (IsolationUsesXactSnapshot())
					ereport(ERROR,
							errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("could not serialize access due to concurrent update"));
				found = false;
				break;
			case TM_SelfModified:
				found = false;
				break;
			default:
				elog(ERROR, "could not lock a row of \"%s\"", name);
		}
	}
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(slot);
	table_close(table, NoLock);
	return found;
}

bool
osmtalk_has_any(const char *name, const char *index_name, Snapshot snapshot)
{
	Oid index_oid = get_relname_relid(index_name, osmtalk_installation());
	Relation table, index;
	TupleTableSlot *slot;
	IndexScanDesc scan;
	bool found;

	if (!OidIsValid(index_oid))
		return true;
	table = open_table(name, AccessShareLock);
	index = index_open(index_oid, AccessShareLock);
	slot = table_slot_create(table, NULL);
	scan = begin_scan(table, index, snapshot, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(table, NoLock);
	return found;
}
