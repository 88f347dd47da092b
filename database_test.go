package main_test

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"attune/pg/pgtest"
	"attune/wire"
)

// platform is a database as an Attune platform has it: more columns than are read,
// some of them secret, and triggers of its own.
const platform = `
	CREATE SCHEMA attune;
	SET search_path = attune;
	CREATE TYPE execution_status_enum AS ENUM ('requested', 'scheduling', 'scheduled', 'running', 'completed', 'failed',
		'canceling', 'cancelled', 'timeout', 'abandoned');
	CREATE TABLE execution (
		id bigserial PRIMARY KEY, action bigint, action_ref text NOT NULL, config jsonb, env_vars jsonb,
		parent bigint REFERENCES execution (id) ON DELETE SET NULL, enforcement bigint, executor bigint, worker bigint,
		status execution_status_enum NOT NULL DEFAULT 'requested', result jsonb, started_at timestamptz,
		created timestamptz NOT NULL DEFAULT now(), updated timestamptz NOT NULL DEFAULT now(), workflow_task jsonb);
	CREATE FUNCTION notify_execution_created() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_notify('execution_created', json_build_object('entity_type', 'execution', 'entity_id', NEW.id,
			'id', NEW.id, 'action_ref', NEW.action_ref, 'status', NEW.status, 'created', NEW.created)::text);
		RETURN NEW;
	END $$;
	CREATE FUNCTION notify_execution_status_changed() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_notify('execution_status_changed', json_build_object('entity_type', 'execution', 'entity_id', NEW.id,
			'id', NEW.id, 'action_ref', NEW.action_ref, 'old_status', OLD.status, 'status', NEW.status, 'updated', NEW.updated)::text);
		RETURN NEW;
	END $$;
	CREATE TRIGGER execution_created AFTER INSERT ON execution FOR EACH ROW EXECUTE FUNCTION notify_execution_created();
	CREATE TRIGGER execution_status_changed AFTER UPDATE OF status ON execution FOR EACH ROW
		WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION notify_execution_status_changed();
	INSERT INTO execution (action_ref, config, env_vars, executor, status, started_at)
		VALUES ('slack.post', '{"channel": "#ops"}', '{"TOKEN": "not-to-be-shown"}', 7, 'running', now());`

// A platform's database is followed as it is, and left as it is.
func TestServe_Platform(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := pgtest.Connect(t, url)
	execSQL(t, db, platform)
	before := catalog(t, db)
	s := serve(t, "DATABASE_URL="+url)

	status, body := s.get(t, "/executions/1")
	x := decode[wire.Execution](t, body)
	if status != http.StatusOK || x.ActionRef != "slack.post" || string(x.Parameters) != `{"channel":"#ops"}` && string(x.Parameters) != `{"channel": "#ops"}` ||
		x.Status != wire.StatusRunning || x.StartedAt == nil || x.Executor == nil || *x.Executor != 7 {
		t.Errorf("%d %s", status, body)
	}
	_, list := s.get(t, "/executions")
	if n := len(decode[wire.ExecutionList](t, list).Items); n != 1 {
		t.Errorf("%d executions in %s", n, list)
	}

	waiter := s.start(t, "execution", "wait", "1")
	waiter.says(waiter.stderr, "subscribed to entity:execution:1")
	follower := s.start(t, "events", "--filter", "entity_type:execution", "--sse")
	follower.says(follower.stderr, "connected to")
	eventually(t, "all are connected", func() bool {
		_, body := s.get(t, "/stats")
		c := decode[struct{ Connections map[string]int }](t, body).Connections
		return c["ws"] == 1 && c["sse"] == 1
	})
	execSQL(t, db, `UPDATE attune.execution SET status = 'completed', result = '{"ok": true}', updated = now()`)
	if code := waiter.wait(); code != 0 || waiter.stdout.String() != `{"ok":true}`+"\n" {
		t.Errorf("exit code %d, stdout %q", code, waiter.stdout)
	}
	equal(t, "stderr", transcript(s.url, waiter.stderr.String()), []string{
		"Waiting for execution ID to complete...",
		"[notifier] connected to ws://SERVER/ws",
		"[notifier] session id client_N",
		"[notifier] subscribed to entity:execution:ID",
		"[notifier] execution_status_changed for execution ID — status=completed",
		"✓ Execution ID completed",
	})
	follower.says(follower.stdout, "completed")

	resp := s.do(t, http.MethodPost, "/executions", `{"action_ref":"core.echo","parameters":{"message":"Hello!"}}`)
	defer resp.Body.Close()
	equal(t, "status of a POST", resp.StatusCode, http.StatusMethodNotAllowed)
	code, stdout, _ := s.attune(t, "action", "execute", "core.echo", "--param", "message=Hello!", "--wait", "--json")
	if refused := decode[problem](t, stdout); code != 1 || refused.Error.Code != wire.CodeReadOnly {
		t.Errorf("exit code %d, %s", code, stdout)
	}
	if code, _, _ := s.attune(t, "execution", "cancel", "1"); code != 1 {
		t.Errorf("exit code of a cancellation %d", code)
	}

	s.signal(syscall.SIGTERM)
	if code := s.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	equal(t, "the database", catalog(t, db), before)
	if all := body + list + s.stderr.String() + follower.stdout.String(); strings.Contains(all, "env_vars") || strings.Contains(all, "not-to-be-shown") {
		t.Errorf("env_vars are shown: %s", all)
	}
}

// A database that knows nothing of executions: what it notifies is passed on.
func TestServe_NoExecutionTable(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := pgtest.Connect(t, url)
	before := catalog(t, db)
	s := serve(t, "DATABASE_URL="+url, "ATTUNE_CHANNELS=orders", "ATTUNE_RUNNER=false")
	if !strings.Contains(s.stderr.String(), "no execution table") {
		t.Error("it does not say that there is no execution table")
	}
	stream := events(t, s, "?filter=entity:order:A-7")
	stream.next(t, "welcome")
	follower := s.start(t, "events", "--filter", "entity_type:order", "--json")
	follower.says(follower.stderr, "subscribed to entity_type:order")
	execSQL(t, db, `SELECT pg_notify('orders', '{"entity_type":"order","entity_id":"A-6"}'); SELECT pg_notify('orders', '{"entity_type":"order","entity_id":"A-7","paid":true}')`)
	n := decode[wire.Notification](t, stream.next(t, "message"))
	equal(t, "payload", string(n.Payload), `{"entity_type":"order","entity_id":"A-7","paid":true}`)
	follower.says(follower.stdout, "A-7")
	equal(t, "lines", strings.Count(follower.stdout.String(), "\n"), 2)

	for _, path := range []string{"/executions", "/executions/1", "/executions/1?wait=5s"} {
		status, body := s.get(t, path)
		if code := decode[wire.Error](t, body).Code; status != http.StatusNotImplemented || code != wire.CodeNoExecutions {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	code, stdout, _ := s.attune(t, "execution", "wait", "1", "--json")
	if refused := decode[problem](t, stdout); code != 1 || refused.Error.Code != wire.CodeNoExecutions {
		t.Errorf("exit code %d, %s", code, stdout)
	}
	equal(t, "the database", catalog(t, db), before)
}

// Two servers share one database. One is killed in the midst of its work.
func TestServe_TwoRunners(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	one := serveWithRunner(t, url, "ATTUNE_WORKERS=1")
	lost := one.execute(t, "core.sleep", "seconds=600")
	one.reaches(t, lost, wire.StatusRunning) // in one: there is no other

	two := serveWithRunner(t, url, "ATTUNE_WORKERS=1")
	kept := one.execute(t, "core.sleep", "seconds=1")
	two.reaches(t, kept, wire.StatusRunning) // in two: the other is busy
	var queued []string
	for range 3 {
		queued = append(queued, one.execute(t, "core.echo", "message=queued"))
	}
	waiter := two.start(t, "execution", "wait", lost)
	waiter.says(waiter.stderr, "subscribed to")
	one.signal(syscall.SIGKILL)
	one.wait()

	all := two.start(t, append([]string{"execution", "wait", kept}, queued...)...)
	if code := all.wait(); code != 0 {
		t.Errorf("exit code of those that were not lost: %d", code)
	}
	if code := waiter.wait(); code != 7 {
		t.Errorf("exit code of the one that was lost is %d, want 7", code)
	}
	x := two.reaches(t, lost, wire.StatusAbandoned)
	t.Logf("abandoned %s after its process was killed", x.Updated.Sub(one.ended))
	if !strings.Contains(waiter.stderr.String(), "✗ Execution "+lost+" abandoned") {
		t.Error("it is not told")
	}
}

// problem is what a client command prints with --json when there is no execution.
type problem struct{ Error wire.Error }

// catalog lists everything that a database contains beyond PostgreSQL's own.
func catalog(t *testing.T, db *pgx.Conn) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), `
		SELECT kind || ' ' || coalesce(nspname || '.', '') || name FROM (
			SELECT 'schema' AS kind, nspname AS name, NULL::oid AS namespace FROM pg_namespace
			UNION ALL SELECT 'relation', relname || ' ' || relkind::text || ' ' || relnatts, relnamespace FROM pg_class
			UNION ALL SELECT 'function', proname || md5(prosrc), pronamespace FROM pg_proc
			UNION ALL SELECT 'type', typname, typnamespace FROM pg_type
			UNION ALL SELECT 'trigger', tgname || ' on ' || tgrelid::regclass, NULL FROM pg_trigger
			UNION ALL SELECT 'constraint', conname, connamespace FROM pg_constraint
			UNION ALL SELECT 'extension', extname, NULL FROM pg_extension
			UNION ALL SELECT 'publication', pubname, NULL FROM pg_publication) all_objects
		LEFT JOIN pg_namespace n ON n.oid = namespace
		WHERE coalesce(nspname, name) NOT IN ('pg_catalog', 'information_schema') AND coalesce(nspname, name) !~ '^pg_(toast|temp)'
		ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return objects
}
