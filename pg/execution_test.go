package pg_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/pg"
	"attune/pg/pgtest"
	"attune/wire"
)

// openPool opens a pool on a fresh database.
func openPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// openExecutions opens the executions of a fresh, migrated database.
func openExecutions(t *testing.T) (*pgxpool.Pool, *pg.Executions) {
	t.Helper()
	pool := openPool(t)
	if err := pg.Migrate(t.Context(), pool, "attune"); err != nil {
		t.Fatal(err)
	}
	executions, err := pg.OpenExecutions(t.Context(), pool, "attune")
	if err != nil {
		t.Fatal(err)
	}
	return pool, executions
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, pool *pgxpool.Pool, executions *pg.Executions, req wire.ExecutionRequest) (wire.Execution, error) {
	t.Helper()
	var x wire.Execution
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		var err error
		x, err = executions.Create(t.Context(), tx, req)
		return err
	})
	return x, err
}

func codeOf(err error) wire.Code {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e.Code
	}
	return ""
}

func TestOpenExecutions(t *testing.T) {
	t.Parallel()
	const columns = `(id bigint, action_ref text, config jsonb, parent bigint, executor bigint, status text,
		result jsonb, started_at timestamptz, created timestamptz, updated timestamptz)`
	tests := []struct {
		name, sql, schema string
		want              string // the table
		wantErr           string
	}{
		{"InSchema", `CREATE SCHEMA attune; CREATE TABLE attune.execution ` + columns + `; CREATE TABLE public.execution ` + columns, "attune", `"attune"."execution"`, ""},
		{"AlongSearchPath", `CREATE TABLE public.execution ` + columns, "attune", `"public"."execution"`, ""},
		{"QuotedSchema", `CREATE SCHEMA "My ""Own"" 100%"; CREATE TABLE "My ""Own"" 100%".execution ` + columns, `My "Own" 100%`, `"My ""Own"" 100%"."execution"`, ""},
		{"View", `CREATE TABLE t ` + columns + `; CREATE VIEW execution AS SELECT * FROM t`, "attune", `"public"."execution"`, ""},
		{"None", `CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.execution ` + columns, "attune", "", `no execution table in schema "attune" or along the search path`},
		{"NoTable", `CREATE SEQUENCE execution`, "attune", "", `no execution table in schema "attune"`},
		{"MissingColumns", `CREATE TABLE execution (id bigint, status text)`, "attune", "", `"public"."execution" has no column action_ref, config, parent,`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool := openPool(t)
			exec(t, pool, tt.sql)
			executions, err := pg.OpenExecutions(t.Context(), pool, tt.schema)
			if tt.wantErr != "" {
				if !errors.Is(err, pg.ErrNoExecutions) || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("got error %v, want ErrNoExecutions with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if executions.Table() != tt.want {
				t.Errorf("got table %s, want %s", executions.Table(), tt.want)
			}
			if _, err := executions.List(t.Context(), wire.ExecutionQuery{Limit: 1}); err != nil {
				t.Error(err)
			}
		})
	}
}

// A platform's own table: other columns beside ours, statuses that we do not know.
func TestExecutions_Get(t *testing.T) {
	t.Parallel()
	const enum = `
		CREATE TYPE execution_status_enum AS ENUM ('requested', 'running', 'paused', 'completed');
		CREATE TABLE execution (id bigserial PRIMARY KEY, action bigint, action_ref text NOT NULL, config jsonb, env_vars jsonb,
			parent bigint REFERENCES execution, enforcement bigint, executor bigint, worker bigint,
			status execution_status_enum NOT NULL DEFAULT 'requested', result jsonb, started_at timestamptz,
			created timestamptz NOT NULL DEFAULT now(), updated timestamptz NOT NULL DEFAULT now(), workflow_task jsonb)`
	tests := map[string]string{
		"Enum": enum,
		"Text": strings.ReplaceAll(enum, "status execution_status_enum", "status text"),
	}
	for name, sql := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := openPool(t)
			exec(t, pool, sql)
			exec(t, pool, `INSERT INTO execution (id, action_ref, config, env_vars, executor, status, created, updated)
				VALUES (9007199254740993, 'slack.post', NULL, '{"SECRET": 1}', 7, 'requested', '2026-03-03T20:42:41.123456+01', '2026-03-03T20:42:41+01')`)
			exec(t, pool, `INSERT INTO execution (id, action_ref, config, parent, status, result, started_at, created, updated)
				VALUES (2, 'core.echo', '{"n": 12345678901234567890.10, "s": "é"}', 9007199254740993, 'paused', 'null',
					'2026-03-03T19:42:42Z', '2026-03-03T19:42:41Z', '2026-03-03T19:42:43Z')`)
			executions, err := pg.OpenExecutions(t.Context(), pool, "attune")
			if err != nil {
				t.Fatal(err)
			}
			for id, want := range map[int64]string{
				9007199254740993: `{"id":9007199254740993,"action_ref":"slack.post","parameters":null,"parent":null,"executor":7,"status":"requested",` +
					`"result":null,"created":"2026-03-03T19:42:41.123456Z","started_at":null,"updated":"2026-03-03T19:42:41Z"}`,
				2: `{"id":2,"action_ref":"core.echo","parameters":{"n":12345678901234567890.10,"s":"é"},"parent":9007199254740993,"executor":null,"status":"paused",` +
					`"result":null,"created":"2026-03-03T19:42:41Z","started_at":"2026-03-03T19:42:42Z","updated":"2026-03-03T19:42:43Z"}`,
			} {
				x, err := executions.Get(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				got, err := json.Marshal(x)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, string(got)); diff != "" {
					t.Errorf("execution %d (-want +got):\n%s", id, diff)
				}
			}
			if _, err := executions.Get(t.Context(), 3); codeOf(err) != wire.CodeNotFound {
				t.Errorf("no such execution: got %v, want not_found", err)
			}

			// The label was added while we look on.
			if name == "Enum" {
				exec(t, pool, `ALTER TYPE execution_status_enum ADD VALUE 'dreaming'`)
			}
			exec(t, pool, `UPDATE execution SET status = 'dreaming' WHERE id = 2`)
			for status, want := range map[wire.Status]int{"requested": 1, "dreaming": 1, "abandoned": 0, "no'such": 0} {
				list, err := executions.List(t.Context(), wire.ExecutionQuery{Status: status, Limit: 10})
				if err != nil || len(list.Items) != want {
					t.Errorf("status %q: got %d executions and error %v, want %d", status, len(list.Items), err, want)
				}
			}
		})
	}
}

func TestExecutions_List(t *testing.T) {
	t.Parallel()
	pool, executions := openExecutions(t)
	exec(t, pool, `INSERT INTO attune.execution (action_ref, parent, status)
		SELECT CASE i % 2 WHEN 0 THEN 'core.echo' ELSE 'core.noop' END, CASE WHEN i > 8 THEN 1 END,
			(CASE WHEN i = 5 THEN 'failed' ELSE 'completed' END)::attune.execution_status_enum
		FROM generate_series(1, 10) i`)
	tests := []struct {
		name string
		q    wire.ExecutionQuery
		want []int64
		next *int64
	}{
		{"First", wire.ExecutionQuery{Limit: 4}, []int64{10, 9, 8, 7}, new(int64(7))},
		{"Next", wire.ExecutionQuery{Limit: 4, Before: new(int64(7))}, []int64{6, 5, 4, 3}, new(int64(3))},
		{"Last", wire.ExecutionQuery{Limit: 4, Before: new(int64(3))}, []int64{2, 1}, nil},
		{"ExactlyFull", wire.ExecutionQuery{Limit: 10}, []int64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, nil},
		{"Status", wire.ExecutionQuery{Limit: 4, Status: wire.StatusFailed}, []int64{5}, nil},
		{"UnknownStatus", wire.ExecutionQuery{Limit: 4, Status: "dreaming"}, []int64{}, nil},
		{"ActionRef", wire.ExecutionQuery{Limit: 2, ActionRef: "core.echo"}, []int64{10, 8}, new(int64(8))},
		{"Parent", wire.ExecutionQuery{Limit: 2, Parent: new(int64(1))}, []int64{10, 9}, nil},
		{"All", wire.ExecutionQuery{Limit: 2, Parent: new(int64(1)), ActionRef: "core.noop", Status: wire.StatusCompleted, Before: new(int64(100))}, []int64{9}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list, err := executions.List(t.Context(), tt.q)
			if err != nil {
				t.Fatal(err)
			}
			ids := []int64{}
			for _, x := range list.Items {
				ids = append(ids, x.ID)
			}
			if diff := cmp.Diff(tt.want, ids); diff != "" {
				t.Errorf("ids (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.next, list.NextBefore); diff != "" {
				t.Errorf("next_before (-want +got):\n%s", diff)
			}
			if list.Items == nil {
				t.Error("items would be null")
			}
		})
	}
}

// The list queries of a large table go by its indexes, the status's too.
func TestExecutions_List_UsesIndexes(t *testing.T) {
	t.Parallel()
	pool, _ := openExecutions(t)
	exec(t, pool, `ALTER TABLE attune.execution DISABLE TRIGGER USER`)
	exec(t, pool, `INSERT INTO attune.execution (action_ref, status)
		SELECT 'core.echo', (CASE i % 1000 WHEN 0 THEN 'failed' ELSE 'completed' END)::attune.execution_status_enum FROM generate_series(1, 20000) i`)
	exec(t, pool, `ANALYZE attune.execution`)
	for index, query := range map[string]string{
		"execution_status_id":     `status = 'failed'::"attune"."execution_status_enum"`,
		"execution_action_ref_id": `octet_length(action_ref) <= 1000 AND action_ref = 'core.rare'`,
	} {
		rows, err := pool.Query(t.Context(), `EXPLAIN SELECT id FROM attune.execution WHERE `+query+` ORDER BY id DESC LIMIT 51`)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if plan := strings.Join(lines, "\n"); !strings.Contains(plan, index) {
			t.Errorf("%s is not used:\n%s", index, plan)
		}
	}
}

func TestExecutions_Create(t *testing.T) {
	t.Parallel()
	pool, executions := openExecutions(t)
	tests := []struct {
		name, parameters, want string
		code                   wire.Code
	}{
		{"Object", `{"message":"Hello!"}`, `{"message": "Hello!"}`, ""},
		{"None", ``, ``, ""},
		{"Null", `null`, `null`, ""},
		{"EscapedNUL", `{"message":"\u0000"}`, ``, wire.CodeInvalidParameter},
		{"NumberOutOfRange", `{"n":1e200000}`, ``, wire.CodeInvalidParameter},
		{"TooDeep", strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), ``, wire.CodeInvalidParameter},
		{"InvalidUTF8", "{\"message\":\"\xff\"}", ``, wire.CodeInvalidParameter},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			req := wire.ExecutionRequest{ActionRef: "core.echo"}
			if tt.parameters != "" {
				req.Parameters = json.RawMessage(tt.parameters)
			}
			x, err := create(t, pool, executions, req)
			if codeOf(err) != tt.code || (tt.code == "" && err != nil) {
				t.Fatalf("got error %v, want code %q", err, tt.code)
			}
			if err != nil {
				return
			}
			if x.Status != wire.StatusRequested || x.ActionRef != "core.echo" || string(x.Parameters) != tt.want || x.StartedAt != nil {
				t.Errorf("created %+v", x)
			}
			if got, err := executions.Get(t.Context(), x.ID); err != nil || !cmp.Equal(x, got) {
				t.Errorf("read again: error %v (-created +read):\n%s", err, cmp.Diff(x, got))
			}
		})
	}
}

func TestExecutions_Transition(t *testing.T) {
	t.Parallel()
	pool, executions := openExecutions(t)
	x, err := create(t, pool, executions, wire.ExecutionRequest{ActionRef: "core.echo"})
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		from    []wire.Status
		to      wire.Status
		result  string
		done    bool
		status  wire.Status
		started bool
		want    string
	}{
		{[]wire.Status{wire.StatusRunning}, wire.StatusCompleted, `{}`, false, wire.StatusRequested, false, ``},
		{[]wire.Status{wire.StatusRequested}, wire.StatusScheduled, ``, true, wire.StatusScheduled, false, ``},
		{[]wire.Status{wire.StatusRequested, wire.StatusScheduled}, wire.StatusRunning, ``, true, wire.StatusRunning, true, ``},
		{[]wire.Status{wire.StatusRunning}, wire.StatusCompleted, `{"n": 1}`, true, wire.StatusCompleted, true, `{"n": 1}`},
		{[]wire.Status{wire.StatusCompleted}, wire.StatusAbandoned, ``, true, wire.StatusAbandoned, true, `{"n": 1}`},
		{nil, wire.StatusRunning, ``, false, wire.StatusAbandoned, true, `{"n": 1}`},
	}
	for i, step := range steps {
		var result json.RawMessage
		if step.result != "" {
			result = json.RawMessage(step.result)
		}
		got, done, err := executions.Transition(t.Context(), pool, x.ID, step.from, step.to, result)
		if err != nil {
			t.Fatal(err)
		}
		if done != step.done || got.Status != step.status || (got.StartedAt != nil) != step.started || string(got.Result) != step.want {
			t.Errorf("step %d: done %v, %+v", i, done, got)
		}
		if done && got.Updated.Before(x.Updated) {
			t.Errorf("step %d: updated went back from %s to %s", i, x.Updated, got.Updated)
		}
		x = got
	}

	if _, _, err := executions.Transition(t.Context(), pool, 99, []wire.Status{wire.StatusRequested}, wire.StatusRunning, nil); codeOf(err) != wire.CodeNotFound {
		t.Errorf("no such execution: got %v, want not_found", err)
	}
	if _, _, err := executions.Transition(t.Context(), pool, x.ID, []wire.Status{x.Status}, wire.StatusFailed, json.RawMessage(`"\u0000"`)); codeOf(err) != wire.CodeInvalidParameter {
		t.Errorf("unstorable result: got %v, want invalid_parameter", err)
	}
}

// Of several who want to end an execution, one does.
func TestExecutions_Transition_Race(t *testing.T) {
	t.Parallel()
	pool, executions := openExecutions(t)
	x, err := create(t, pool, executions, wire.ExecutionRequest{ActionRef: "core.echo"})
	if err != nil {
		t.Fatal(err)
	}
	ends := []wire.Status{wire.StatusCompleted, wire.StatusFailed, wire.StatusCancelled, wire.StatusTimeout}
	done := make(chan wire.Status, len(ends))
	errs := make(chan error, len(ends))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, end := range ends {
		go func() {
			_, ok, err := executions.Transition(ctx, pool, x.ID, []wire.Status{wire.StatusRequested}, end, json.RawMessage(fmt.Sprintf("%q", end)))
			if ok {
				done <- end
			}
			errs <- err
		}()
	}
	for range ends {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if len(done) != 1 {
		t.Fatalf("%d ended it, want 1", len(done))
	}
	got, err := executions.Get(t.Context(), x.ID)
	if winner := <-done; err != nil || got.Status != winner || string(got.Result) != fmt.Sprintf("%q", winner) {
		t.Errorf("got %s with result %s and error %v, want %s", got.Status, got.Result, err, winner)
	}
}
