package doctor_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"attune/pg"
	"attune/pg/doctor"
	"attune/pg/live"
	"attune/pg/pgtest"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// platform is a database as an Attune platform has it: triggers of its own, whose
// payloads are measured by a function that they share.
const platform = `
	CREATE SCHEMA attune;
	SET search_path = attune;
	CREATE TYPE execution_status_enum AS ENUM ('requested', 'running', 'completed');
	CREATE TABLE execution (
		id bigserial PRIMARY KEY, action bigint, action_ref text NOT NULL, config jsonb, env_vars jsonb, parent bigint,
		enforcement bigint, executor bigint, worker bigint, status execution_status_enum NOT NULL DEFAULT 'requested', result jsonb,
		started_at timestamptz, created timestamptz NOT NULL DEFAULT now(), updated timestamptz NOT NULL DEFAULT now());
	CREATE FUNCTION _notify_payload_guard(channel text, full_payload text, compact_payload text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF octet_length(full_payload) <= 7000 THEN
			PERFORM pg_notify(channel, full_payload);
		ELSE
			PERFORM pg_notify(channel, compact_payload);
		END IF;
	END $$;
	CREATE FUNCTION notify_execution_created() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		payload json;
		compact json;
	BEGIN
		payload := json_build_object('entity_type', 'execution', 'entity_id', NEW.id, 'id', NEW.id, 'action_ref', NEW.action_ref,
			'status', NEW.status, 'config', NEW.config, 'created', NEW.created, 'auth_mode', 'full');
		compact := json_build_object('entity_type', 'execution', 'entity_id', NEW.id, 'id', NEW.id, 'auth_mode', 'deferred');
		PERFORM _notify_payload_guard('execution_created', payload::text, compact::text);
		RETURN NEW;
	END $$;
	CREATE FUNCTION notify_execution_status_changed() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		-- PERFORM pg_notify('not_this_one', payload::text);
		PERFORM pg_notify('execution_status_changed', json_build_object('entity_type', 'execution', 'entity_id', NEW.id,
			'id', NEW.id, 'status', NEW.status, 'has_result', NEW.result IS NOT NULL)::text);
		RETURN NEW;
	END $$;
	CREATE TRIGGER execution_created AFTER INSERT ON execution FOR EACH ROW EXECUTE FUNCTION notify_execution_created();
	CREATE TRIGGER execution_status_changed AFTER UPDATE OF status ON execution FOR EACH ROW EXECUTE FUNCTION notify_execution_status_changed();
	CREATE TABLE notification (
		id bigserial PRIMARY KEY, channel text NOT NULL, entity_type text NOT NULL, entity text NOT NULL, activity text NOT NULL, content jsonb);
	CREATE FUNCTION notify_on_insert() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		payload text;
	BEGIN
		payload := json_build_object('id', NEW.id, 'entity_type', NEW.entity_type, 'entity', NEW.entity, 'activity', NEW.activity)::text;
		PERFORM pg_notify(NEW.channel, payload);
		RETURN NEW;
	END $$;
	CREATE TRIGGER notify_on_notification_insert AFTER INSERT ON notification FOR EACH ROW EXECUTE FUNCTION notify_on_insert();`

// database returns the URL of a fresh database on which sql was executed.
func database(t *testing.T, sql string) string {
	t.Helper()
	url := pgtest.Database(t)
	execute(t, url, sql)
	return url
}

// execute executes statements on a connection of their own.
func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn := pgtest.Connect(t, url)
	if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// execOn executes a statement on a connection that stays.
func execOn(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// setting returns a statement that changes a setting for the connected database.
func setting(name, value string) string {
	return `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET ` + name + ` = %L', current_database(), '` + value + `'); END $$`
}

// config is what serve is told by default.
func config(url string) doctor.Config {
	return doctor.Config{DatabaseURL: url, Schema: "attune", Channels: pg.DefaultChannels()}
}

// examine makes an examination, which must be quick, in order and without secrets.
func examine(t *testing.T, cfg doctor.Config) doctor.Report {
	t.Helper()
	began := time.Now()
	report := doctor.Examine(t.Context(), cfg)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	action := false
	for _, f := range report.Findings {
		action = action || f.Level.NeedsAction()
		t.Logf("%-8s %-14s %s → %s", f.Level, f.Check, f.Message, f.Remedy)
		if f.Check == "" || f.Message == "" || strings.Contains(f.Message+f.Remedy, "\n") {
			t.Errorf("finding %+v", f)
		}
		if f.Level == doctor.OK && f.Remedy != "" || f.Level != doctor.OK && f.Remedy == "" {
			t.Errorf("finding %+v: a remedy belongs to what is not ok", f)
		}
		for _, raw := range []string{cfg.DatabaseURL, cfg.ListenURL} {
			u, err := url.Parse(raw)
			if err != nil {
				continue
			}
			if password, ok := u.User.Password(); ok && strings.Contains(f.Message+f.Remedy, password) {
				t.Errorf("finding of %s has the password", f.Check)
			}
		}
	}
	if report.OK == action {
		t.Errorf("OK is %t, action is needed: %t", report.OK, action)
	}
	return report
}

// want checks that a check found one thing of that level which says all parts.
func want(t *testing.T, report doctor.Report, check string, level doctor.Level, parts ...string) {
	t.Helper()
	var found []doctor.Finding
	for _, f := range report.Findings {
		if f.Check == check {
			found = append(found, f)
		}
	}
	ok := slices.ContainsFunc(found, func(f doctor.Finding) bool {
		return f.Level == level && !slices.ContainsFunc(parts, func(part string) bool {
			return !strings.Contains(f.Message+" "+f.Remedy, part)
		})
	})
	if !ok {
		t.Errorf("%s: got %+v, want %s with %q", check, found, level, parts)
	}
}

// wantNothingToDo checks that nothing needs action, but perhaps the PostgreSQL of
// this machine.
func wantNothingToDo(t *testing.T, report doctor.Report) {
	t.Helper()
	for _, f := range report.Findings {
		if f.Level.NeedsAction() && f.Check != "version" {
			t.Errorf("%s needs action", f.Check)
		}
	}
}

// eventually waits until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// userOf returns the role that a URL names.
func userOf(t *testing.T, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return u.User.Username()
}

// dropOwned takes a role's rights in a database away.
func dropOwned(t *testing.T, rawURL, role string) {
	t.Helper()
	conn := pgtest.Connect(t, rawURL)
	if _, err := conn.Exec(context.Background(), "DROP OWNED BY "+userOf(t, role)); err != nil {
		t.Error(err)
	}
}

// grants returns the statements that the check of privileges prints.
func grants(report doctor.Report) string {
	var statements []string
	for _, f := range report.Findings {
		if at := strings.Index(f.Remedy, "GRANT "); f.Check == "privileges" && at >= 0 {
			statements = append(statements, f.Remedy[at:])
		}
	}
	return strings.Join(statements, "; ")
}

func withPassword(t *testing.T, rawURL, password string) string {
	t.Helper()
	return changed(t, rawURL, func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), password) })
}

// inDatabase returns rawURL with another database.
func inDatabase(t *testing.T, rawURL, name string) string {
	t.Helper()
	return changed(t, rawURL, func(u *url.URL) { u.Path = "/" + name })
}

func changed(t *testing.T, rawURL string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

// migrate makes the schema that standalone use has.
func migrate(t *testing.T, url string) {
	t.Helper()
	pool, err := pg.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := pg.Migrate(t.Context(), pool, "attune"); err != nil {
		t.Fatal(err)
	}
	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
}
