-- Creates Kadun's roles and database, or corrects them. Can be run any number of times.
--
-- For psql, as an administrator of the cluster. Needs the variables database, owner_password, backup_password,
-- app_password. scripts/database-roles.sh prints them together with this file.
--
-- kadun_owner owns the database and everything in it; migrations and restores run as this role. kadun_app, the service,
-- reads and writes rows, but cannot create, alter or drop anything. kadun_backup reads. After each migration the owner grants
-- the other two their rights inside the database: app/storage/schema.py.

\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;

SELECT current_setting('server_version_num')::int >= 150000 AS is_recent,
    rolsuper AS is_superuser FROM pg_roles WHERE rolname = current_user \gset
\if :is_recent
\else
    DO $$ BEGIN RAISE EXCEPTION 'Kadun needs PostgreSQL 15 or newer'; END $$;
\endif
\if :{?database}
\else
    DO $$ BEGIN RAISE EXCEPTION 'run this by scripts/database-roles.sh, which sets its variables'; END $$;
\endif
\if :is_superuser
    SET log_statement = none; -- keep passwords out of the server's log
    SET log_min_duration_statement = -1;
    SET log_min_error_statement = panic;
\endif

SELECT format('CREATE ROLE %I', name)
    FROM unnest(ARRAY['kadun_owner', 'kadun_app', 'kadun_backup']) AS name
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE kadun_owner LOGIN CREATEDB NOCREATEROLE PASSWORD :'owner_password';
ALTER ROLE kadun_app LOGIN NOCREATEDB NOCREATEROLE PASSWORD :'app_password';
ALTER ROLE kadun_backup LOGIN NOCREATEDB NOCREATEROLE PASSWORD :'backup_password';
GRANT kadun_app, kadun_backup TO kadun_owner; -- so that it may end their sessions before databases change names
\if :is_superuser
\else
    GRANT kadun_owner TO CURRENT_USER; -- only a superuser can give a database to a role that it is not a member of
\endif

SELECT format('CREATE DATABASE %I OWNER kadun_owner ENCODING ''UTF8'' TEMPLATE template0', :'database')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
ALTER DATABASE :"database" OWNER TO kadun_owner;
-- A role may change its own settings: one that was taken over could leave the service unable to write.
ALTER ROLE kadun_app RESET ALL;
ALTER ROLE kadun_app IN DATABASE :"database" RESET ALL;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO kadun_app, kadun_backup;
