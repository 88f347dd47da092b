-- The schema attune_live. Doing it again changes nothing but functions that are out of date.

SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;

-- One installation at a time: the others wait, and find it done.
SELECT pg_advisory_xact_lock(hashtextextended('attune_live.install', 0));

-- IF NOT EXISTS wants the right to create even where there is nothing to do.
DO $do$
BEGIN
    IF to_regnamespace('attune_live') IS NULL THEN
        CREATE SCHEMA attune_live;
    END IF;
END
$do$;

-- The order of commits: taken under the commit lock, so whoever sees a number sees every lower one that will ever be.
CREATE SEQUENCE IF NOT EXISTS attune_live.seq;

-- Counts notifications that could not be logged. A sequence, because nextval needs no commit to be seen and no lock.
CREATE SEQUENCE IF NOT EXISTS attune_live.losses MINVALUE 0;
SELECT setval('attune_live.losses', 0) FROM attune_live.losses WHERE NOT is_called; -- last_value is the count

CREATE TABLE IF NOT EXISTS attune_live.notification_log (
    seq         bigint PRIMARY KEY,
    channel     text NOT NULL,
    entity_type text NOT NULL,
    entity_id   text NOT NULL,
    user_id     bigint,
    payload     json NOT NULL,
    created     timestamptz NOT NULL
) WITH (
    -- Rows come at one end and go at the other: vacuum by number, not by share, so that it never has much to do.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000);

-- What notify() was given, from the call to the commit. No row outlives its transaction, so none needs a WAL.
CREATE UNLOGGED TABLE IF NOT EXISTS attune_live.outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel     text NOT NULL,
    entity_type text NOT NULL,
    entity_id   text NOT NULL,
    user_id     bigint,
    payload     json NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- One row.
CREATE TABLE IF NOT EXISTS attune_live.meta (
    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    log_id         text NOT NULL,               -- names this log in cursors: [a-z0-9]
    schema_version integer NOT NULL,
    pruned_seq     bigint NOT NULL DEFAULT 0,   -- rows up to here may be gone
    installed      timestamptz NOT NULL DEFAULT now()
);
INSERT INTO attune_live.meta (log_id, schema_version)
VALUES (left(replace(gen_random_uuid()::text, '-', ''), 10), 1)
ON CONFLICT (only_row) DO UPDATE SET schema_version = excluded.schema_version
    WHERE meta.schema_version < excluded.schema_version;

-- Restored data may be ahead of a sequence.
SELECT setval('attune_live.seq', greatest(
    (SELECT max(seq) FROM attune_live.notification_log),
    (SELECT nullif(pruned_seq, 0) FROM attune_live.meta)))
WHERE (SELECT last_value FROM attune_live.seq) < greatest(
    (SELECT max(seq) FROM attune_live.notification_log),
    (SELECT pruned_seq FROM attune_live.meta));

-- The functions below run as their owner, so that a writer needs no right on this schema, and name everything in full:
-- a search_path of theirs would cost each writer the change and the change back.

-- lose() makes a loss known: counted for good at once, and announced to whoever listens now. It never fails.
CREATE OR REPLACE FUNCTION attune_live.lose(what text, why text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
AS $fn$
BEGIN
    RAISE WARNING 'attune_live: % is not announced: %', what, why
        USING HINT = 'The write itself is not affected. Subscribers are told of a gap.';
    BEGIN
        PERFORM pg_catalog.pg_notify('attune_live', 'lost');
    EXCEPTION WHEN OTHERS THEN
        NULL;
    END;
    BEGIN
        PERFORM pg_catalog.nextval('attune_live.losses');
    EXCEPTION WHEN OTHERS THEN
        NULL; -- no such sequence, or a transaction that may not write
    END;
END
$fn$;

-- notify() is for writers: call it anywhere in a transaction. What it is given is logged and announced when the
-- transaction commits; until then nobody waits for it.
CREATE OR REPLACE FUNCTION attune_live.notify(
    channel text, entity_type text, entity_id text, payload jsonb, user_id bigint DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
AS $fn$
BEGIN
    IF channel IS NULL OR pg_catalog.octet_length(channel) OPERATOR(pg_catalog.<) 1
        OR pg_catalog.octet_length(channel) OPERATOR(pg_catalog.>) 63
        OR channel OPERATOR(pg_catalog.~) '[\x01-\x1f\x7f]' THEN
        RAISE EXCEPTION 'attune_live.notify: channel must be 1 to 63 bytes without control characters'
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF (entity_type COLLATE "C" OPERATOR(pg_catalog.~) '^[A-Za-z0-9_.-]{1,63}$') IS NOT TRUE THEN
        RAISE EXCEPTION 'attune_live.notify: entity_type must be 1 to 63 characters of [A-Za-z0-9_.-]'
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF (entity_id COLLATE "C" OPERATOR(pg_catalog.~) '^[A-Za-z0-9_.-]{1,128}$') IS NOT TRUE THEN
        RAISE EXCEPTION 'attune_live.notify: entity_id must be 1 to 128 characters of [A-Za-z0-9_.-]'
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF payload IS NULL THEN
        RAISE EXCEPTION 'attune_live.notify: payload must not be null'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass ''{}'' when there is nothing to tell.';
    END IF;
    BEGIN
        INSERT INTO attune_live.outbox (channel, entity_type, entity_id, user_id, payload)
        VALUES ($1, $2, $3, $5, $4::pg_catalog.text::pg_catalog.json);
    EXCEPTION WHEN OTHERS THEN
        PERFORM attune_live.lose(entity_type OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) entity_id, SQLERRM);
    END;
END
$fn$;

-- publish_outbox() runs when a transaction that called notify() commits.
CREATE OR REPLACE FUNCTION attune_live.publish_outbox() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
AS $fn$
DECLARE
    tail pg_catalog.text;
    n    pg_catalog.int8;
BEGIN
    DELETE FROM attune_live.outbox o WHERE o.id OPERATOR(pg_catalog.=) NEW.id;
    tail := pg_catalog.concat(E'\n', NEW.entity_type, E'\n', NEW.entity_id, E'\n', NEW.user_id,
        E'\n', NEW.channel, E'\n', NEW.payload);
    IF pg_catalog.octet_length(tail) OPERATOR(pg_catalog.>) 7979 THEN
        tail := ''; -- NOTIFY takes 7999 bytes, and the number has up to 19 digits
    END IF;
    -- Held to the end of the commit: it makes the order of the numbers the order of the commits.
    IF pg_catalog.pg_advisory_xact_lock(7022364301868297334) IS NULL THEN END IF;
    n := pg_catalog.nextval('attune_live.seq');
    INSERT INTO attune_live.notification_log VALUES
        (n, NEW.channel, NEW.entity_type, NEW.entity_id, NEW.user_id, NEW.payload, pg_catalog.clock_timestamp());
    IF pg_catalog.pg_notify('attune_live', pg_catalog.concat(n, tail)) IS NULL THEN END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    PERFORM attune_live.lose(pg_catalog.concat(NEW.entity_type, ' ', NEW.entity_id), SQLERRM);
    RETURN NULL;
END
$fn$;

DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
        WHERE tgrelid = 'attune_live.outbox'::regclass AND tgname = 'publish') THEN
        CREATE CONSTRAINT TRIGGER publish AFTER INSERT ON attune_live.outbox
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION attune_live.publish_outbox();
    END IF;
END
$do$;

-- Only notify() is for everybody who may use the schema.
REVOKE ALL ON FUNCTION attune_live.lose(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION attune_live.publish_outbox() FROM PUBLIC;
