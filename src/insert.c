/*
 * insert.c
 *		Rows into a table of ours, without the executor.
 *
 * The executor takes longer to get ready for a row, the more so if it has to
 * find its partition, than the row takes.  What it would do beyond that is
 * done where there is reason to: a table to which somebody has added triggers,
 * constraints, columns or an index of another sort is left to a statement, and
 * so is whoever does not own it: what he may do is the executor's to say.
 * Knows none of the tables.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_am.h"
#include "catalog/pg_trigger.h"
#include "executor/tuptable.h"
#include "fault.h"
#include "insert.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static bool
is_own_trigger(const Trigger *trigger, const OsmtalkTable *as)
{
	for (const char *const *own = as->triggers; own != NULL && *own != NULL; own++)
		if (strcmp(trigger->tgname, *own) == 0)
			return true;
	return false;
}

/* Whether nothing happens at an insert into the table but what the caller sees to. */
static bool
has_no_more(Relation table, const OsmtalkTable *as)
{
	const TriggerDesc *triggers = table->trigdesc;

	if (table->rd_rel->relhasrules || table->rd_rel->relforcerowsecurity)
		return false;
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		if (TRIGGER_FOR_INSERT(triggers->triggers[i].tgtype) && !is_own_trigger(&triggers->triggers[i], as))
			return false;
	return true;
}

static bool
parent_has_no_more(Relation table, const OsmtalkTable *as)
{
	Oid oid;
	Relation parent;
	bool result;

	if (as->parent == NULL)
		return true;
	oid = get_relname_relid(as->parent, osmtalk_installation());
	if (!OidIsValid(oid) || !table->rd_rel->relispartition)
		return false;
	parent = table_open(oid, RowExclusiveLock);
	result = has_no_more(parent, as);
	table_close(parent, NoLock);
	return result;
}

/* Whether inserting the tuple is all that the executor would do. */
static bool
is_as_made(Relation table, const OsmtalkTable *as)
{
	TupleDesc desc = RelationGetDescr(table);

	if (table->rd_rel->relowner != GetUserId())
		return false;
	if (table->rd_rel->relkind != RELKIND_RELATION || table->rd_rel->relam != HEAP_TABLE_AM_OID || desc->natts != as->ncolumns)
		return false;
	if (desc->constr != NULL && desc->constr->num_check > 0)
		return false;
	return has_no_more(table, as) && parent_has_no_more(table, as);
}

/* Whether catalog-style insertion, which knows but this sort, is right for them. */
static bool
are_simple(CatalogIndexState indexes)
{
	for (int i = 0; i < indexes->ri_NumIndices; i++)
	{
		const IndexInfo *index = indexes->ri_IndexRelationInfo[i];

		if (index->ii_Expressions != NIL || index->ii_Predicate != NIL || index->ii_ExclusionOps != NULL)
			return false;
	}
	return true;
}

static void
insert_rows(Relation table, CatalogIndexState indexes, HeapTuple *rows, int nrows)
{
	TupleTableSlot **slots;

	if (nrows == 1)
	{
		CatalogTupleInsertWithInfo(table, rows[0], indexes);
		return;
	}
	slots = palloc(nrows * sizeof(*slots));
	for (int i = 0; i < nrows; i++)
	{
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsHeapTuple);
		ExecStoreHeapTuple(rows[i], slots[i], false);
	}
	CatalogTuplesMultiInsertWithInfo(table, slots, nrows, indexes);
	for (int i = 0; i < nrows; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	pfree(slots);
}

bool
osmtalk_insert(const char *name, OsmtalkTable *as, const Datum *values, const bool *isnull, int nrows)
{
	Oid oid = get_relname_relid(name, osmtalk_installation());
	Relation table;
	CatalogIndexState indexes;
	bool done = false;

	if (!OidIsValid(oid))
		return false;
	osmtalk_fault_at_step(name);
	table = table_open(oid, RowExclusiveLock);
	if (is_as_made(table, as))
	{
		HeapTuple *rows = palloc(nrows * sizeof(*rows));

		for (int i = 0; i < nrows; i++)
			rows[i] = osmtalk_form_row(RelationGetDescr(table), as->columns, as->ncolumns,
									   values + i * as->ncolumns, isnull + i * as->ncolumns);
		indexes = CatalogOpenIndexes(table);
		if (are_simple(indexes))
		{
			PreventCommandIfReadOnly("INSERT");
			insert_rows(table, indexes, rows, nrows);
			done = true;
		}
		CatalogCloseIndexes(indexes);
		for (int i = 0; i < nrows; i++)
			heap_freetuple(rows[i]);
		pfree(rows);
	}
	table_close(table, NoLock);
	osmtalk_fault_at_step(name);
	return done;
}
