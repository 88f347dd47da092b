package pg_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"attune/pg"
	"attune/pg/live"
	"attune/pg/pgtest"
	"attune/wire"
)

// objects counts what a database has beyond PostgreSQL's own, by schema.
func objects(t *testing.T, pool *pgxpool.Pool) map[string]int {
	t.Helper()
	var found map[string]int
	if err := pool.QueryRow(t.Context(), `
		SELECT coalesce(json_object_agg(nspname, n), '{}') FROM (SELECT nspname, count(*) AS n FROM (
			SELECT relnamespace AS oid FROM pg_class
			UNION ALL SELECT pronamespace FROM pg_proc
			UNION ALL SELECT typnamespace FROM pg_type) o JOIN pg_namespace n USING (oid)
		WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema' GROUP BY 1) per_schema`).Scan(&found); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"attune", "public", `Odd "schema" 100%'s`, strings.Repeat("x", 63)} {
		t.Run(fmt.Sprintf("%.20s", schema), func(t *testing.T) {
			t.Parallel()
			pool := openPool(t)
			for range 2 {
				if err := pg.Migrate(t.Context(), pool, schema); err != nil {
					t.Fatal(err)
				}
			}
			before := objects(t, pool)
			if err := pg.Migrate(t.Context(), pool, schema); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, objects(t, pool)); diff != "" {
				t.Errorf("doing it again made a difference:\n%s", diff)
			}
			if len(before) != 2 || before[schema] == 0 || before[live.Schema] == 0 {
				t.Errorf("got objects %v, want some in %q and %q only", before, schema, live.Schema)
			}
			executions, err := pg.OpenExecutions(t.Context(), pool, schema)
			if err != nil {
				t.Fatal(err)
			}
			if want := (pgx.Identifier{schema, "execution"}).Sanitize(); executions.Table() != want {
				t.Errorf("got table %s, want %s", executions.Table(), want)
			}
			if _, err := create(t, pool, executions, wire.ExecutionRequest{ActionRef: "core.noop"}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMigrate_TwoSchemas(t *testing.T) {
	t.Parallel()
	pool := openPool(t)
	for _, schema := range []string{"one", "two"} {
		if err := pg.Migrate(t.Context(), pool, schema); err != nil {
			t.Fatal(err)
		}
	}
	if found := objects(t, pool); found["one"] == 0 || found["one"] != found["two"] {
		t.Errorf("got objects %v, want as many in one as in two", found)
	}
}

// Several processes start at once, on an empty database.
func TestMigrate_Concurrent(t *testing.T) {
	t.Parallel()
	pool := openPool(t)
	var group errgroup.Group
	for range 8 {
		group.Go(func() error { return pg.Migrate(t.Context(), pool, "attune") })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := pg.OpenExecutions(t.Context(), pool, "attune"); err != nil {
		t.Error(err)
	}
}

func TestMigrate_SchemaExists(t *testing.T) {
	t.Parallel()
	pool := openPool(t)
	exec(t, pool, `CREATE SCHEMA attune; CREATE TABLE attune.rule (id bigint)`)
	if err := pg.Migrate(t.Context(), pool, "attune"); err != nil {
		t.Fatal(err)
	}
	if _, err := pg.OpenExecutions(t.Context(), pool, "attune"); err != nil {
		t.Error(err)
	}
}

// What somebody else may have put into the log's schema would run with our rights.
func TestMigrate_LogOfAnother(t *testing.T) {
	t.Parallel()
	pool := openPool(t)
	exec(t, pool, `CREATE ROLE migrate_squatter; CREATE SCHEMA attune_live AUTHORIZATION migrate_squatter`)
	t.Cleanup(func() {
		_, _ = pool.Exec(context.WithoutCancel(t.Context()), `DROP OWNED BY migrate_squatter; DROP ROLE migrate_squatter`)
	})
	before := objects(t, pool)
	err := pg.Migrate(t.Context(), pool, "attune")
	if err == nil || !strings.Contains(err.Error(), "belongs to the role migrate_squatter") {
		t.Errorf("got %v, want that the schema belongs to another", err)
	}
	if diff := cmp.Diff(before, objects(t, pool)); diff != "" {
		t.Errorf("objects (-before +after):\n%s", diff)
	}
}

func TestMigrate_PlatformsTable_IsLeftAlone(t *testing.T) {
	t.Parallel()
	pool := openPool(t)
	exec(t, pool, `CREATE SCHEMA attune; CREATE TABLE attune.execution (id bigint)`)
	before := objects(t, pool)
	if err := pg.Migrate(t.Context(), pool, "attune"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, objects(t, pool)); diff != "" {
		t.Errorf("objects (-before +after):\n%s", diff)
	}
}

func TestMigrate_Unreachable(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), "postgres://nobody:secret-word@127.0.0.1:1/none?connect_timeout=2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	err = pg.Migrate(t.Context(), pool, "attune")
	if err == nil || !strings.HasPrefix(err.Error(), `migrate schema "attune": `) || strings.Contains(err.Error(), "secret-word") {
		t.Errorf("got error %v, want one that names the schema and not the password", err)
	}
}

// announced is the next notification of the log, from the announcement or, where that
// only names it, from the log.
func announced(t *testing.T, pool *pgxpool.Pool, conn *pgx.Conn) (channel string, payload map[string]any) {
	t.Helper()
	sent, err := conn.WaitForNotification(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := live.ParseAnnouncement(sent.Payload)
	if err != nil || a.Lost {
		t.Fatalf("announcement %+v, %v", a, err)
	}
	n := a.Notification
	if n == nil {
		log, err := pg.OpenLog(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		rows, _, err := log.Read(t.Context(), uint64(a.Seq)-1, uint64(a.Seq))
		if err != nil || len(rows) != 1 {
			t.Fatalf("row %d: %d rows, %v", a.Seq, len(rows), err)
		}
		n = &rows[0]
	}
	if err := json.Unmarshal(n.Payload, &payload); err != nil {
		t.Fatal(err)
	}
	if entity := n.EntityType + " " + n.EntityID.String(); entity != fmt.Sprintf("execution %v", payload["id"]) {
		t.Errorf("got entity %q for %v", entity, payload)
	}
	return n.NotificationType, payload
}

func TestMigrate_Announces(t *testing.T) {
	t.Parallel()
	pool, _ := openExecutions(t)
	conn := pgtest.Announcements(t, pool.Config().ConnString())
	exec(t, pool, `SET TimeZone = 'Asia/Tokyo'; INSERT INTO attune.execution (action_ref, config, env_vars, executor, created, updated)
		VALUES ('core.echo', '{"message": "Hello!"}', '{"SECRET": 1}', 7, '2026-03-03T19:42:41.123456Z', '2026-03-03T19:42:41Z')`)
	row := map[string]any{
		"entity_type": "execution", "entity_id": 1.0, "user_id": 7.0, "id": 1.0, "action": nil, "action_ref": "core.echo", "parent": nil,
		"enforcement": nil, "executor": 7.0, "status": "requested", "started_at": nil,
		"created": "2026-03-03T19:42:41.123456+00:00", "updated": "2026-03-03T19:42:41+00:00",
	}
	channel, payload := announced(t, pool, conn)
	if diff := cmp.Diff(row, payload); diff != "" || channel != "execution_created" {
		t.Errorf("channel %s, payload (-want +got):\n%s", channel, diff)
	}

	// Neither an update that leaves the status alone nor one to the same is announced.
	exec(t, pool, `UPDATE attune.execution SET result = '{"a": 1}'`)
	exec(t, pool, `UPDATE attune.execution SET status = 'requested'`)
	exec(t, pool, `UPDATE attune.execution SET status = 'running', started_at = '2026-03-03T19:42:42Z', result = '{"b": 1}'`)
	row["status"], row["old_status"], row["started_at"] = "running", "requested", "2026-03-03T19:42:42+00:00"
	channel, payload = announced(t, pool, conn)
	if diff := cmp.Diff(row, payload); diff != "" || channel != "execution_status_changed" {
		t.Errorf("channel %s, payload (-want +got):\n%s", channel, diff)
	}
}

// A row of any size is announced whole.
func TestMigrate_Announces_LargeRow(t *testing.T) {
	t.Parallel()
	pool, _ := openExecutions(t)
	conn := pgtest.Announcements(t, pool.Config().ConnString())
	for i, ref := range []string{strings.Repeat("x", 10_000), strings.Repeat("é", 3_900), strings.Repeat("x", 7_990), strings.Repeat("😀", 300_000)} {
		exec(t, pool, `INSERT INTO attune.execution (action_ref) VALUES ($1)`, ref)
		channel, payload := announced(t, pool, conn)
		if channel != "execution_created" || payload["action_ref"] != ref {
			t.Errorf("row %d: channel %s, %d bytes of action_ref, want %d", i, channel, len(fmt.Sprint(payload["action_ref"])), len(ref))
		}
		exec(t, pool, `UPDATE attune.execution SET status = 'running' WHERE id = $1`, i+1)
		if channel, payload := announced(t, pool, conn); channel != "execution_status_changed" || payload["status"] != "running" || payload["action_ref"] != ref {
			t.Errorf("row %d: channel %s, status %v", i, channel, payload["status"])
		}
	}
}

// Whatever goes wrong in the trigger, the write goes through.
func TestMigrate_Announces_NeverFailsTheWriter(t *testing.T) {
	t.Parallel()
	pool, _ := openExecutions(t)
	// A column that the function reads has gone.
	exec(t, pool, `ALTER TABLE attune.execution DROP COLUMN enforcement`)
	exec(t, pool, `INSERT INTO attune.execution (action_ref) VALUES ('core.echo')`)
	exec(t, pool, `UPDATE attune.execution SET status = 'running'`)
	var status string
	if err := pool.QueryRow(t.Context(), `SELECT status FROM attune.execution`).Scan(&status); err != nil || status != "running" {
		t.Errorf("got status %q and error %v, want running", status, err)
	}
}

// A session's search_path cannot put other functions in front of those that the
// trigger calls.
func TestMigrate_Announces_PinsSearchPath(t *testing.T) {
	t.Parallel()
	pool, _ := openExecutions(t)
	conn := pgtest.Announcements(t, pool.Config().ConnString())
	exec(t, pool, `
		CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''caught''; END';
		SET search_path = public, pg_catalog;
		INSERT INTO attune.execution (action_ref) VALUES ('core.echo')`)
	if channel, _ := announced(t, pool, conn); channel != "execution_created" {
		t.Errorf("got channel %q", channel)
	}
}
