/*
 * tenant.c
 *		Whose rows a session may see, where tenants are isolated.
 *
 * The tables' policies say it for tables (sql/tenants.sql); this says it for
 * what runs with the owner's rights, whom no policy binds: functions, and the
 * view that shows more than its readers could read by themselves.  The session
 * names its tenant, with a setting that it may change: this keeps an
 * application from mixing tenants up, not an attacker from any.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "nested.h"
#include "settings.h"
#include "tenant.h"

PG_FUNCTION_INFO_V1(osmtalk_current_org_id);
PG_FUNCTION_INFO_V1(osmtalk_sees_org);
PG_FUNCTION_INFO_V1(osmtalk_sees_every_org);

/* One table's row security stands for all: it is switched for all at once. */
static bool
is_isolated(Oid *owner)
{
	Oid table = get_relname_relid("org_settings", osmtalk_installation());
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	bool isolated;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("relation \"osmtalk.org_settings\" does not exist"));
	isolated = ((Form_pg_class) GETSTRUCT(tuple))->relrowsecurity;
	*owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return isolated;
}

/*
 * Of whom the session is, or has been SET ROLE to: within a function of the
 * owner's, everybody is the owner.
 */
bool
osmtalk_tenant_sees_all(void)
{
	Oid owner;
	Oid user;

	if (!is_isolated(&owner))
		return true;
	user = GetOuterUserId();
	return has_bypassrls_privilege(user) || has_privs_of_role(user, owner);
}

Datum
osmtalk_sees_every_org(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(osmtalk_tenant_sees_all());
}

Datum
osmtalk_sees_org(PG_FUNCTION_ARGS)
{
	text *org;

	if (osmtalk_tenant_sees_all())
		PG_RETURN_BOOL(true);
	if (PG_ARGISNULL(0) || osmtalk_org_id[0] == '\0')
		PG_RETURN_BOOL(false);
	org = PG_GETARG_TEXT_PP(0);
	PG_RETURN_BOOL(VARSIZE_ANY_EXHDR(org) == strlen(osmtalk_org_id) &&
				   memcmp(VARDATA_ANY(org), osmtalk_org_id, VARSIZE_ANY_EXHDR(org)) == 0);
}

Datum
osmtalk_current_org_id(PG_FUNCTION_ARGS)
{
	if (osmtalk_org_id[0] == '\0')
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(osmtalk_org_id));
}
