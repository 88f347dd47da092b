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
