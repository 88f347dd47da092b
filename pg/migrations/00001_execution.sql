-- The schema is the connection's search_path: goose has no way to name it here.

-- +goose Up
-- +goose StatementBegin
DO $$
BEGIN
    IF to_regtype('execution_status_enum') IS NULL THEN
        CREATE TYPE execution_status_enum AS ENUM (
            'requested', 'scheduling', 'scheduled', 'running', 'completed',
            'failed', 'canceling', 'cancelled', 'timeout', 'abandoned');
    END IF;
END
$$;
-- +goose StatementEnd

CREATE TABLE execution (
    id          bigserial PRIMARY KEY,
    action      bigint,
    action_ref  text NOT NULL,
    config      jsonb,
    env_vars    jsonb,
    parent      bigint REFERENCES execution (id) ON DELETE SET NULL,
    enforcement bigint,
    executor    bigint,
    status      execution_status_enum NOT NULL DEFAULT 'requested',
    result      jsonb,
    started_at  timestamptz,
    created     timestamptz NOT NULL DEFAULT now(),
    updated     timestamptz NOT NULL DEFAULT now()
);

-- Each filter of a list, in the order in which the list is given out. An index entry
-- has a limit that action_ref has not: a long one must not make its insert fail.
CREATE INDEX execution_status_id ON execution (status, id DESC);
CREATE INDEX execution_action_ref_id ON execution (action_ref, id DESC) WHERE octet_length(action_ref) <= 1000;
CREATE INDEX execution_parent_id ON execution (parent, id DESC) WHERE parent IS NOT NULL;

-- The columns are named one by one: config, result and env_vars have no bound (and
-- may be secret), and NOTIFY refuses 8000 bytes within the writer's transaction.
-- action_ref has none either, so a row that is still too large is announced by its
-- key. Nothing that goes wrong here may undo the write: the handler turns it into a
-- warning.
-- +goose StatementBegin
CREATE FUNCTION execution_announce() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET "TimeZone" = 'UTC'
AS $$
DECLARE
    announcement jsonb;
BEGIN
    announcement := jsonb_build_object(
        'entity_type', 'execution',
        'entity_id', NEW.id,
        'user_id', NULL,
        'id', NEW.id,
        'action', NEW.action,
        'action_ref', NEW.action_ref,
        'parent', NEW.parent,
        'enforcement', NEW.enforcement,
        'executor', NEW.executor,
        'status', NEW.status,
        'started_at', NEW.started_at,
        'created', NEW.created,
        'updated', NEW.updated);
    IF TG_OP = 'UPDATE' THEN
        announcement := announcement || jsonb_build_object('old_status', OLD.status);
    END IF;
    IF octet_length(announcement::text) > 7900 THEN
        announcement := jsonb_build_object(
            'entity_type', 'execution',
            'entity_id', NEW.id,
            'user_id', NULL,
            'id', NEW.id,
            'status', NEW.status,
            'truncated', true);
    END IF;
    PERFORM pg_notify(TG_ARGV[0], announcement::text);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'execution %: not announced: %', NEW.id, SQLERRM;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER execution_created AFTER INSERT ON execution
    FOR EACH ROW EXECUTE FUNCTION execution_announce('execution_created');

CREATE TRIGGER execution_status_changed AFTER UPDATE ON execution
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION execution_announce('execution_status_changed');
