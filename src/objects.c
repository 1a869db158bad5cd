/*
 * objects.c
 *		Which version of the extension's objects the database has, whose they
 *		are, and whether this library can serve them.
 *
 * The library is the server's, and changes when that is restarted; the
 * objects are the database's, and change with ALTER EXTENSION.  In between a
 * worker meets objects of another version than its own.  It serves those
 * that its own and all later steps of the upgrade have left as its statements
 * need them, from OSMTALK_OLDEST_OBJECTS on (see the Makefile), and none that
 * are newer than it: nobody could have tried that.
 *
 * What a worker does it does as the owner of the schema.  It is known by that
 * and not by its name: roles can be renamed, and objects given to another.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "objects.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "wakeup.h"

/* Number by number; what is not there is 0. */
static int
compare_versions(const char *a, const char *b)
{
	static const char digits[] = "0123456789";

	for (;;)
	{
		unsigned long x, y;

		a += strcspn(a, digits);
		b += strcspn(b, digits);
		if (*a == '\0' && *b == '\0')
			return 0;
		x = strtoul(a, (char **) &a, 10);
		y = strtoul(b, (char **) &b, 10);
		if (x != y)
			return x < y ? -1 : 1;
	}
}

static OsmtalkFit
fit_of(const char *version)
{
	if (strcmp(version, OSMTALK_VERSION) == 0)
		return OSMTALK_FIT;
	if (compare_versions(version, OSMTALK_VERSION) > 0)
		return OSMTALK_TOO_NEW;
	if (compare_versions(version, OSMTALK_VERSION) == 0 || compare_versions(version, OSMTALK_OLDEST_OBJECTS) < 0)
		return OSMTALK_TOO_OLD;
	return OSMTALK_FIT;
}

Oid
osmtalk_objects_owner(void)
{
	HeapTuple tuple = SearchSysCache1(NAMESPACENAME, CStringGetDatum("osmtalk"));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

OsmtalkObjects
osmtalk_find_objects(void)
{
	OsmtalkObjects objects = {InvalidOid, OSMTALK_FIT, ""};
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("osmtalk"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool isnull;
		Datum value = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);
		char *version = isnull ? pstrdup("") : TextDatumGetCString(value);

		objects.extension = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
		objects.fit = fit_of(version);
		strlcpy(objects.version, version, sizeof(objects.version));
		pfree(version);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (objects.fit == OSMTALK_FIT && OidIsValid(objects.extension) && superuser_arg(osmtalk_objects_owner()))
		objects.fit = OSMTALK_OF_A_SUPERUSER;
	return objects;
}

static void
report_version(const OsmtalkObjects *objects, int worker)
{
	bool old = objects->fit == OSMTALK_TOO_OLD;
	char *reason = psprintf("the extension is of version %s in this database, the library of %s: %s",
							objects->version, OSMTALK_VERSION, old ? "ALTER EXTENSION osmtalk UPDATE" : "restart the server");

	if (osmtalk_note_unfit(MyDatabaseId, worker, reason) && worker == 0)
		ereport(LOG,
				errmsg("osmtalk: the extension is of version %s in database \"%s\", which the library of version %s cannot serve: its events queue",
					   objects->version, get_database_name(MyDatabaseId), OSMTALK_VERSION),
				old ? errhint("Run ALTER EXTENSION osmtalk UPDATE in that database.")
					: errhint("Restart the server, so that it loads the library that was installed with that version."));
}

static void
report_superuser(int worker)
{
	char *owner = GetUserNameFromId(osmtalk_objects_owner(), true);
	char *reason;

	if (owner == NULL)
		return; /* mended meanwhile */
	reason = psprintf("the schema osmtalk belongs to a superuser, %s: ALTER SCHEMA osmtalk OWNER TO osmtalk_owner", owner);
	if (osmtalk_note_unfit(MyDatabaseId, worker, reason) && worker == 0)
		ereport(LOG,
				errmsg("osmtalk: the schema osmtalk belongs to \"%s\" in database \"%s\", a superuser, as whom no worker works: its events queue",
					   owner, get_database_name(MyDatabaseId)),
				errhint("Give it, and what is in it, to a role that is none: ALTER SCHEMA osmtalk OWNER TO osmtalk_owner."));
}

void
osmtalk_report_misfit(int worker)
{
	OsmtalkObjects objects;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	objects = osmtalk_find_objects();
	PopActiveSnapshot();
	if (objects.fit == OSMTALK_OF_A_SUPERUSER)
		report_superuser(worker);
	else if (objects.fit != OSMTALK_FIT)
		report_version(&objects, worker);
	CommitTransactionCommand();
}
