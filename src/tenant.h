/*
 * tenant.h
 *		Whose rows a session may see, where tenants are isolated.
 */
#ifndef OSMTALK_TENANT_H
#define OSMTALK_TENANT_H

/* Whether the session's role is bound to no tenant, or nobody's is. */
extern bool osmtalk_tenant_sees_all(void);

#endif
