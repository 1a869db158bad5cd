/*
 * roles.sql
 *		What must be there before anything is made: a database in UTF-8, and
 *		the roles.
 *
 * First part of the install script.  Roles are the server's, not the
 * database's: they are made by the first installation, used by all, and stay
 * when the extension is dropped.  What they may do is in grants.sql.
 */

-- Complain if the script is sourced in psql rather than via CREATE EXTENSION.
\echo Use "CREATE EXTENSION osmtalk" to load this file. \quit

DO LANGUAGE plpgsql $$
BEGIN
	-- Bodies are signed and sent byte for byte and JSON is UTF-8 (RFC 8259):
	-- in a database of another encoding an event could hold text that has no
	-- UTF-8 form, and the business transaction would have to fail for it.
	IF pg_catalog.getdatabaseencoding() <> 'UTF8' THEN
		RAISE EXCEPTION 'osmtalk needs a database with the encoding UTF8'
			USING ERRCODE = 'feature_not_supported',
				  DETAIL = pg_catalog.format('The encoding of this database is %s.',
											 pg_catalog.getdatabaseencoding()),
				  HINT = 'Create one with CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0.';
	END IF;
END
$$;

/*
 * A role of these names that is there already may be an earlier
 * installation's, or planted by somebody who may create roles.  Whoever can
 * become the owner can read every secret, and make others run what he likes:
 * so the owner's attributes must be right, and nobody's membership in it may
 * rest on anything but a superuser's word.  (Who has CREATEROLE before
 * PostgreSQL 16 can make himself a member of it at any time.)  Other members
 * are the administrator's business; they are named.
 */
DO LANGUAGE plpgsql $$
DECLARE
	made record;
	attributes text;
	planted text;
	members text;
BEGIN
	FOR made IN
		SELECT * FROM (VALUES
			('osmtalk_owner', 'osmtalk: owns the extension''s objects; its triggers and workers run as this role'),
			('osmtalk_app', 'osmtalk: records leads, calls and DNC entries'),
			('osmtalk_admin', 'osmtalk: keeps organisations, agents and campaigns; redelivers, pauses, adopts'),
			('osmtalk_monitor', 'osmtalk: sees status, deliveries and reports')) roles (name, comment)
	LOOP
		IF pg_catalog.to_regrole(made.name) IS NULL THEN
			BEGIN
				EXECUTE pg_catalog.format(
					'CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', made.name);
				EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', made.name, made.comment);
			EXCEPTION WHEN duplicate_object OR unique_violation THEN
				NULL; -- by an installation in another database, at this moment
			END;
		END IF;
		SELECT pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(m.rolname), ', ') INTO members
		  FROM pg_catalog.pg_auth_members a
		  JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
		  JOIN pg_catalog.pg_roles m ON m.oid = a.member
		 WHERE r.rolname = made.name AND NOT m.rolsuper;
		IF members IS NOT NULL THEN
			RAISE WARNING 'the role "%" has members: %', made.name, members
				USING DETAIL = 'They have its rights in this database, too.',
					  HINT = 'If they should not: REVOKE the role from them.';
		END IF;
	END LOOP;

	SELECT pg_catalog.concat_ws(' ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolcanlogin THEN 'LOGIN' END,
			CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
			CASE WHEN r.rolreplication THEN 'REPLICATION' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END)
	  INTO attributes
	  FROM pg_catalog.pg_roles r WHERE r.rolname = 'osmtalk_owner';
	IF attributes IS DISTINCT FROM '' THEN
		RAISE EXCEPTION 'the role "osmtalk_owner" is not fit to own osmtalk'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = coalesce('It is ' || attributes || '.', 'It is being made by another transaction.'),
				  HINT = 'ALTER ROLE osmtalk_owner NOSUPERUSER NOLOGIN NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS; or, if it is somebody''s, rename it: the extension makes its own.';
	END IF;

	SELECT pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(m.rolname), ', ') INTO planted
	  FROM pg_catalog.pg_auth_members a
	  JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
	  JOIN pg_catalog.pg_roles m ON m.oid = a.member
	  LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantor
	 WHERE r.rolname = 'osmtalk_owner' AND NOT m.rolsuper AND (a.admin_option OR g.rolsuper IS NOT TRUE);
	IF planted IS NOT NULL THEN
		RAISE EXCEPTION 'the role "osmtalk_owner" is in the hands of others'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = pg_catalog.format('Members that no superuser has made, or with the admin option: %s.', planted),
				  HINT = 'REVOKE osmtalk_owner FROM them, or drop or rename the role: the extension makes its own.';
	END IF;
END
$$;
