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

-- What is to be published when a transaction commits, and what is a loss then. No row outlives its transaction, so none
-- needs a WAL, and an outbox of another shape can go.
DO $do$
BEGIN
    IF to_regclass('attune_live.outbox') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('attune_live.outbox') AND attname = 'loss') THEN
        DROP TABLE attune_live.outbox;
    END IF;
END
$do$;
CREATE UNLOGGED TABLE IF NOT EXISTS attune_live.outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel     text,
    entity_type text,
    entity_id   text,
    user_id     bigint,
    payload     json,
    loss        text,                           -- why it is one; of what, the entity says
    last        boolean NOT NULL DEFAULT false  -- other deferred triggers have had their turn
) WITH (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

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

-- What watched tables there are, and how.
CREATE TABLE IF NOT EXISTS attune_live.watch (
    relation regclass PRIMARY KEY,
    name     text NOT NULL,             -- of the relation, as it was then
    function text NOT NULL,             -- how the names of its functions begin
    options  jsonb NOT NULL,
    digest   text NOT NULL,             -- of the script that made it: says whether there is anything to do
    watched  timestamptz NOT NULL DEFAULT now()
);

-- Tokens that count no more, for servers that authenticate: one token (its jti), or all that a user was given up to then.
CREATE TABLE IF NOT EXISTS attune_live.revocation (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token_id text CHECK (octet_length(token_id) BETWEEN 1 AND 512),
    user_id  bigint,
    revoked  timestamptz NOT NULL DEFAULT now(),
    CHECK ((token_id IS NULL) <> (user_id IS NULL))
);

-- The functions that triggers and writers call run as their owner, so that a writer needs no right on what is here, and
-- with a search_path of their own, so that the writer's can not lend them other functions. Two advisory locks are the
-- same everywhere, and their numbers stand for nothing: the commit lock, ...334, and the announce lock, ...335. Whoever
-- wants each commit announced holds the latter, shared. A writer that gets it knows that nobody does, and keeps it to
-- its commit, so that whoever gets it afterwards finds in the log what was not announced. A NOTIFY is what a commit
-- costs most: all others in the cluster wait for it.

-- lose() makes a loss known: counted for good at once, and announced at its place in the order of commits.
CREATE OR REPLACE FUNCTION attune_live.lose(what text, why text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
    RAISE WARNING 'attune_live: % is not announced: %', what, why
        USING HINT = 'The write itself is not affected. Subscribers are told that something may be missing.';
    BEGIN
        PERFORM pg_notify('attune_live', 'lost');
    EXCEPTION WHEN OTHERS THEN
        NULL; -- then the number tells whoever looks
    END;
    BEGIN
        PERFORM nextval('attune_live.losses');
    EXCEPTION WHEN OTHERS THEN
        NULL; -- no such sequence, or a transaction that may not write: then the announcement tells
    END;
END
$fn$;

-- await() takes the commit lock. Nobody holds it for long, but for a transaction that writes very many rows, or one that
-- is left open after SET CONSTRAINTS ALL IMMEDIATE. A writer that has set no lock_timeout waits ten seconds for those:
-- then what it wrote is a loss.
CREATE OR REPLACE FUNCTION attune_live.await() RETURNS void
    LANGUAGE plpgsql
AS $fn$
BEGIN
    IF pg_catalog.current_setting('lock_timeout') OPERATOR(pg_catalog.<>) '0' THEN
        IF pg_catalog.pg_advisory_xact_lock(7022364301868297334) IS NULL THEN END IF;
        RETURN;
    END IF;
    IF pg_catalog.set_config('lock_timeout', '10s', true) IS NULL THEN END IF; -- an error takes it back
    IF pg_catalog.pg_advisory_xact_lock(7022364301868297334) IS NULL THEN END IF;
    IF pg_catalog.set_config('lock_timeout', '0', true) IS NULL THEN END IF;
END
$fn$;

-- publish() logs a notification and announces it. From here to the end of the transaction the commit lock is held, so
-- it is called at commit and not before, and all that can be done before the lock is. Like what calls it, it is made for
-- speed: full names instead of a search_path of its own, expressions (IF ... END IF) instead of PERFORM.
CREATE OR REPLACE FUNCTION attune_live.publish(
    channel text, entity_type text, entity_id text, user_id bigint, payload json) RETURNS void
    LANGUAGE plpgsql
AS $fn$
DECLARE
    body pg_catalog.text := pg_catalog.concat(
        E'\n', entity_type, E'\n', entity_id, E'\n', user_id, E'\n', channel, E'\n', payload);
    n    pg_catalog.int8;
BEGIN
    IF pg_catalog.octet_length(body) OPERATOR(pg_catalog.>) 7980 THEN
        body := ''; -- NOTIFY takes 7999 bytes, and the number may need 19
    END IF;
    IF pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.>) 0.9 THEN
        -- A listener hangs. When the queue is full, every commit with a NOTIFY fails: ours must not fill it. The row
        -- waits in the log for whoever looks.
        body := NULL;
    END IF;
    IF NOT pg_catalog.pg_try_advisory_xact_lock(7022364301868297334) AND attune_live.await() IS NULL THEN END IF;
    n := pg_catalog.nextval('attune_live.seq');
    INSERT INTO attune_live.notification_log VALUES
        (n, channel, entity_type, entity_id, user_id, payload, pg_catalog.clock_timestamp());
    IF body IS NOT NULL AND NOT pg_catalog.pg_try_advisory_xact_lock(7022364301868297335) THEN
        IF pg_catalog.pg_notify('attune_live', pg_catalog.concat(n, body)) IS NULL THEN END IF;
    END IF;
END
$fn$;

-- notify() is for writers: call it anywhere in a transaction. What it is given is logged and announced when the
-- transaction commits; until then nobody waits for it. It fails no transaction: what it can not take is a loss, told at
-- the commit, too. The payload may be any JSON and travels as it is; an object is what readers can look into.
CREATE OR REPLACE FUNCTION attune_live.notify(
    channel text, entity_type text, entity_id text, payload jsonb, user_id bigint DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    bad  text;
    good text;
BEGIN
    IF (octet_length(channel) BETWEEN 1 AND 63 AND channel !~ '[\x01-\x1f\x7f]') IS NOT TRUE THEN
        bad := 'channel'; good := '1 to 63 bytes without control characters';
    ELSIF (entity_type COLLATE "C" ~ '^[A-Za-z0-9_.-]{1,63}$') IS NOT TRUE THEN
        bad := 'entity_type'; good := '1 to 63 characters of [A-Za-z0-9_.-]';
    ELSIF (entity_id COLLATE "C" ~ '^[A-Za-z0-9_.-]{1,128}$') IS NOT TRUE THEN
        bad := 'entity_id'; good := '1 to 128 characters of [A-Za-z0-9_.-]';
    ELSIF payload IS NULL THEN
        bad := 'payload'; good := 'JSON, {} when there is nothing to tell, and not null';
    END IF;
    IF current_setting('attune_live.staged', true) = 'yes' THEN
        INSERT INTO attune_live.outbox (channel, entity_type, entity_id, user_id, payload, loss)
        VALUES ($1, $2, $3, $5, $4::text::json, bad || ' must be ' || good);
        RETURN;
    END IF;
    -- What is wrong with a notification is no reason to undo a write.
    BEGIN
        INSERT INTO attune_live.outbox (channel, entity_type, entity_id, user_id, payload, loss)
        VALUES ($1, $2, $3, $5, $4::text::json, bad || ' must be ' || good);
        IF set_config('attune_live.staged', 'yes', true) IS NULL THEN END IF;
    EXCEPTION WHEN OTHERS THEN
        BEGIN
            PERFORM attune_live.lose(concat('notify(): ', left(entity_type, 63), ' ', left(entity_id, 128)), SQLERRM);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'attune_live: notify(): %', SQLERRM;
        END;
    END;
END
$fn$;

-- publish_outbox() runs when a transaction commits that has something in the outbox. It puts it off until all other
-- deferred triggers have had their turn, by having a second one of its own: a foreign key's, say, may wait for a row,
-- and for that whoever waits for the commit lock himself.
CREATE OR REPLACE FUNCTION attune_live.publish_outbox() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
AS $fn$
DECLARE
    what pg_catalog.text;
BEGIN
    -- What worked once in a transaction works again: it holds the locks on all that is needed. So there is one
    -- subtransaction for each turn, however many notifications: more than 64 would slow down every other session.
    IF NEW.last AND NEW.loss IS NULL AND pg_catalog.current_setting('attune_live.proven', true) OPERATOR(pg_catalog.=) 'yes' THEN
        DELETE FROM attune_live.outbox o WHERE o.id OPERATOR(pg_catalog.=) NEW.id;
        IF attune_live.publish(NEW.channel, NEW.entity_type, NEW.entity_id, NEW.user_id, NEW.payload) IS NULL THEN END IF;
        RETURN NULL;
    ELSIF NOT NEW.last AND pg_catalog.current_setting('attune_live.put_off', true) OPERATOR(pg_catalog.=) 'yes' THEN
        UPDATE attune_live.outbox o SET last = true WHERE o.id OPERATOR(pg_catalog.=) NEW.id;
        RETURN NULL;
    END IF;
    BEGIN
        IF NOT NEW.last THEN
            UPDATE attune_live.outbox o SET last = true WHERE o.id OPERATOR(pg_catalog.=) NEW.id;
            IF pg_catalog.set_config('attune_live.put_off', 'yes', true) IS NULL THEN END IF;
            RETURN NULL;
        END IF;
        DELETE FROM attune_live.outbox o WHERE o.id OPERATOR(pg_catalog.=) NEW.id;
        IF NEW.loss IS NULL THEN
            IF pg_catalog.set_config('attune_live.proven', 'yes', true) IS NULL THEN END IF; -- an error takes it back
            IF attune_live.publish(NEW.channel, NEW.entity_type, NEW.entity_id, NEW.user_id, NEW.payload) IS NULL THEN END IF;
            RETURN NULL;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        NEW.loss := SQLERRM;
    END;
    what := pg_catalog.concat_ws(' ', pg_catalog.left(NEW.entity_type, 63), pg_catalog.left(NEW.entity_id, 128));
    BEGIN
        PERFORM attune_live.lose(what, NEW.loss);
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'attune_live: %: %', what, SQLERRM;
    END;
    RETURN NULL;
END
$fn$;

-- truncated() runs when a watched table is emptied: there are no rows to tell of one by one.
CREATE OR REPLACE FUNCTION attune_live.truncated() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
    INSERT INTO attune_live.outbox (entity_type, loss) VALUES (TG_TABLE_NAME, 'the table was truncated');
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    BEGIN
        PERFORM attune_live.lose(TG_TABLE_NAME, 'the table was truncated');
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'attune_live: %: %', TG_TABLE_NAME, SQLERRM;
    END;
    RETURN NULL;
END
$fn$;

-- revoked() tells the servers that are there; the others read the table when they start.
CREATE OR REPLACE FUNCTION attune_live.revoked() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
    PERFORM pg_notify('attune_control', json_build_object('revoke',
        CASE WHEN NEW.token_id IS NULL THEN json_build_object('user', NEW.user_id)
             ELSE json_build_object('jti', NEW.token_id) END)::text);
    RETURN NULL;
END
$fn$;

DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
        WHERE tgrelid = 'attune_live.revocation'::regclass AND tgname = 'announce') THEN
        CREATE TRIGGER announce AFTER INSERT ON attune_live.revocation
            FOR EACH ROW EXECUTE FUNCTION attune_live.revoked();
    END IF;
    IF NOT EXISTS (SELECT FROM pg_trigger
        WHERE tgrelid = 'attune_live.outbox'::regclass AND tgname = 'publish') THEN
        CREATE CONSTRAINT TRIGGER publish AFTER INSERT OR UPDATE ON attune_live.outbox
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION attune_live.publish_outbox();
    END IF;
END
$do$;

-- Only notify() is for everybody who may use the schema.
REVOKE ALL ON FUNCTION attune_live.lose(text, text), attune_live.await(), attune_live.publish(text, text, text, bigint, json),
    attune_live.publish_outbox(), attune_live.truncated(), attune_live.revoked() FROM PUBLIC;
