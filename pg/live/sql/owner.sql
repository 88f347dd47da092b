-- Whoever installs or watches runs what is in the schema: it must belong to a role that he is, or that he is a member of.
-- A superuser is a member of all: he takes it from superusers only.
DO $do$
DECLARE
    mighty boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    what   text;
    owner  text;
    remedy text;
BEGIN
    SELECT o.name, quote_ident(r.rolname),
        CASE WHEN mighty OR o.place > 1 THEN 'drop it if it should not be there'
             ELSE format('have it given to you: ALTER SCHEMA attune_live OWNER TO %I', current_user) END
    INTO what, owner, remedy
    FROM (
        SELECT 1 AS place, 'the schema attune_live' AS name, nspowner AS role
        FROM pg_namespace WHERE nspname = 'attune_live'
        UNION ALL
        SELECT 2, 'attune_live.' || relname, relowner
        FROM pg_class WHERE relnamespace = to_regnamespace('attune_live') AND (relname ~ '^migration_' OR relname IN
            ('seq', 'losses', 'notification_log', 'outbox', 'meta', 'watch', 'revocation'))
        UNION ALL
        SELECT 3, 'attune_live.' || proname || '()', proowner
        FROM pg_proc WHERE pronamespace = to_regnamespace('attune_live') AND proname IN -- with whatever arguments
            ('lose', 'await', 'publish', 'notify', 'publish_outbox', 'truncated', 'revoked')
    ) o JOIN pg_roles r ON r.oid = o.role
    WHERE NOT CASE WHEN mighty THEN r.rolsuper ELSE pg_has_role(r.oid, 'USAGE') END
    ORDER BY o.place, o.name LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% belongs to the role %, and could have code of that role run with the rights of %: connect as %, or %',
            what, owner, quote_ident(current_user), owner, remedy
            USING ERRCODE = 'insufficient_privilege';
    END IF;
END
$do$;
