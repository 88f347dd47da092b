package runner_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"attune/pg"
	"attune/pg/live"
	"attune/pg/pgtest"
	"attune/runner"
	"attune/wire"
)

// history collects the statuses that are announced for each execution.
type history struct {
	mu       sync.Mutex
	statuses map[int64][]wire.Status
}

func (h *history) of(id int64) []wire.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.statuses[id])
}

// history listens until the test ends.
func (b *bench) history() *history {
	b.t.Helper()
	conn := pgtest.Announcements(b.t, b.url)
	h := &history{statuses: make(map[int64][]wire.Status)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return
			}
			var row struct {
				ID     int64       `json:"id"`
				Status wire.Status `json:"status"`
			}
			a, err := live.ParseAnnouncement(n.Payload)
			if err == nil {
				err = json.Unmarshal(a.Notification.Payload, &row)
			}
			if err != nil {
				b.t.Error(err)
			}
			h.mu.Lock()
			h.statuses[row.ID] = append(h.statuses[row.ID], row.Status)
			h.mu.Unlock()
		}
	}()
	b.t.Cleanup(func() {
		cancel()
		<-done
	})
	return h
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if _, err := pool.Exec(t.Context(), `DROP SCHEMA attune_live CASCADE`); err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	for range 4 {
		group.Go(func() error { return runner.Migrate(t.Context(), pool) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := runner.Migrate(t.Context(), pool); err != nil {
		t.Error(err)
	}
}

func TestNew_Config(t *testing.T) {
	t.Parallel()
	if _, err := runner.New(runner.Config{}); err == nil || !strings.Contains(err.Error(), "Pool, Store and Logger") {
		t.Errorf("nothing given: got error %v", err)
	}
	b := newBench(t)
	if _, err := newRunner(t.Context(), b.pool, func(cfg *runner.Config) { cfg.Workers = -1 }); err == nil || !strings.Contains(err.Error(), "workers") {
		t.Errorf("-1 workers: got error %v", err)
	}
	if _, err := newRunner(t.Context(), b.pool, func(cfg *runner.Config) { cfg.ReapInterval = -1 }); err == nil || !strings.Contains(err.Error(), "negative") {
		t.Errorf("a negative interval: got error %v", err)
	}
	equal(t, "actions", b.idle().Actions(), []string{"core.echo", "core.fail", "core.http_request", "core.noop", "core.sleep"})
}

func TestRunner_Run(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.history()
	r, _ := b.run()
	tests := []struct {
		action, parameters string
		status             wire.Status
		result             string
	}{
		{"core.echo", `{"message":"Hello!"}`, wire.StatusCompleted, `{"message": "Hello!"}`},
		{"core.echo", `{"message":"<é> \" \\u0000"}`, wire.StatusCompleted, `{"message": "<é> \" \\u0000"}`},
		{"core.noop", ``, wire.StatusCompleted, `{}`},
		{"core.noop", `null`, wire.StatusCompleted, `{}`},
		{"core.sleep", `{"seconds":0.01}`, wire.StatusCompleted, `{"seconds": 0.01}`},
		{"core.fail", `{"message":"no luck"}`, wire.StatusFailed, `{"error": "no luck"}`},
		{"core.fail", `{}`, wire.StatusFailed, `{"error": "core.fail was asked to fail"}`},
	}
	for _, tt := range tests {
		t.Run(tt.action, func(t *testing.T) {
			x := b.create(r, tt.action, tt.parameters)
			if x.Status != wire.StatusRequested {
				t.Errorf("created as %s", x.Status)
			}
			x = b.reaches(x.ID, tt.status)
			equal(t, "result", string(x.Result), tt.result)
			if x.StartedAt == nil || x.StartedAt.Before(x.Created) || x.Updated.Before(*x.StartedAt) {
				t.Errorf("created %s, started %v, updated %s", x.Created, x.StartedAt, x.Updated)
			}
			want := []wire.Status{wire.StatusRequested, wire.StatusScheduling, wire.StatusScheduled, wire.StatusRunning, tt.status}
			b.until("all is announced", func() bool { return len(h.of(x.ID)) >= len(want) })
			equal(t, "announced", h.of(x.ID), want)
		})
	}
}

// From Create to the terminal commit, one after the other.
func TestRunner_Run_Latency(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r, _ := b.run()
	b.reaches(b.create(r, "core.noop", "").ID, wire.StatusCompleted)
	took := make([]time.Duration, 40)
	for i := range took {
		x := b.create(r, "core.echo", `{"message":"Hello!"}`)
		x = b.reaches(x.ID, wire.StatusCompleted)
		took[i] = x.Updated.Sub(x.Created)
	}
	slices.Sort(took)
	t.Logf("median %s, slowest %s", took[len(took)/2], took[len(took)-1])
	if median := took[len(took)/2]; median > 200*time.Millisecond {
		t.Errorf("median %s", median)
	}
}

func TestRunner_Create_UnknownAction(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, err := b.idle().Create(t.Context(), wire.ExecutionRequest{ActionRef: "core.nope"})
	equal(t, "message", wantCode(t, err, wire.CodeUnknownAction), `unknown action "core.nope": want one of core.echo, core.fail, core.http_request, core.noop, core.sleep`)
}

// Neither an execution without a job nor a job without an execution is left behind.
func TestRunner_Create_OneTransaction(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.idle()
	if _, err := r.Create(t.Context(), request("core.echo", `{"message":"\u0000"}`)); err == nil {
		t.Error("an escaped NUL was stored")
	} else {
		wantCode(t, err, wire.CodeInvalidParameter)
	}
	b.exec(`CREATE FUNCTION no_jobs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no jobs today''; END';
		CREATE TRIGGER no_jobs BEFORE INSERT ON attune_live.river_job FOR EACH STATEMENT EXECUTE FUNCTION no_jobs()`)
	if _, err := r.Create(t.Context(), request("core.noop", "")); err == nil || !strings.Contains(err.Error(), "no jobs today") {
		t.Errorf("got error %v", err)
	}
	if n := b.count(`SELECT count(*) FROM attune.execution`); n != 0 {
		t.Errorf("%d executions have no job", n)
	}
	b.exec(`DROP TRIGGER no_jobs ON attune_live.river_job`)
	b.create(r, "core.noop", "")
	if n, m := b.count(`SELECT count(*) FROM attune.execution`), b.count(`SELECT count(*) FROM attune_live.river_job`); n != 1 || m != 1 {
		t.Errorf("%d executions and %d jobs, want 1 and 1", n, m)
	}
}

func TestRunner_Cancel(t *testing.T) {
	t.Parallel()
	b := newBench(t)

	t.Run("Queued", func(t *testing.T) {
		r := b.idle()
		x := b.create(r, "core.noop", "")
		x, err := r.Cancel(t.Context(), x.ID)
		if err != nil || x.Status != wire.StatusCancelled {
			t.Fatalf("got %s and error %v, want cancelled", x.Status, err)
		}
		if n := b.count(`SELECT count(*) FROM attune_live.river_job WHERE state = 'cancelled'`); n != 1 {
			t.Error("its job is not cancelled")
		}
		_, err = r.Cancel(t.Context(), x.ID)
		if message := wantCode(t, err, wire.CodeAlreadyTerminal); !strings.Contains(message, "is cancelled already") {
			t.Errorf("got message %q", message)
		}
	})
	h := b.history()
	r, _ := b.run()
	t.Run("Running", func(t *testing.T) {
		x := b.create(r, "core.sleep", `{"seconds":600}`)
		b.reaches(x.ID, wire.StatusRunning)
		start := time.Now()
		x, err := r.Cancel(t.Context(), x.ID)
		if err != nil || x.Status != wire.StatusCanceling {
			t.Fatalf("got %s and error %v, want canceling", x.Status, err)
		}
		b.reaches(x.ID, wire.StatusCancelled)
		t.Logf("cancelled within %s", time.Since(start))
		want := []wire.Status{
			wire.StatusRequested, wire.StatusScheduling, wire.StatusScheduled, wire.StatusRunning, wire.StatusCanceling, wire.StatusCancelled,
		}
		b.until("all is announced", func() bool { return len(h.of(x.ID)) >= len(want) })
		equal(t, "announced", h.of(x.ID), want)
	})
	t.Run("Completed", func(t *testing.T) {
		x := b.create(r, "core.noop", "")
		b.reaches(x.ID, wire.StatusCompleted)
		_, err := r.Cancel(t.Context(), x.ID)
		wantCode(t, err, wire.CodeAlreadyTerminal)
	})
	t.Run("NotFound", func(t *testing.T) {
		_, err := r.Cancel(t.Context(), 1<<40)
		wantCode(t, err, wire.CodeNotFound)
	})
	t.Run("Platforms", func(t *testing.T) {
		b.exec(`INSERT INTO attune.execution (id, action_ref, status) VALUES (5000, 'slack.post', 'running')`)
		_, err := r.Cancel(t.Context(), 5000)
		wantCode(t, err, wire.CodeReadOnly)
		equal(t, "status", b.get(5000).Status, wire.StatusRunning)
	})
}

// River's word of a cancellation does not arrive: the row itself is looked at.
func TestRunner_Cancel_NotToldByRiver(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r, _ := b.run()
	x := b.create(r, "core.sleep", `{"seconds":600}`)
	b.reaches(x.ID, wire.StatusRunning)
	b.exec(`UPDATE attune.execution SET status = 'canceling' WHERE id = $1`, x.ID)
	b.reaches(x.ID, wire.StatusCancelled)
}

// Cancellations race with completion: one terminal status each, the last announced.
func TestRunner_Cancel_Race(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.history()
	r, _ := b.run()
	var ids []int64
	ends := make(map[wire.Status]int)
	for i := range 60 {
		x := b.create(r, "core.noop", "")
		ids = append(ids, x.ID)
		timer := time.NewTimer(time.Duration(i) * 500 * time.Microsecond)
		<-timer.C
		got, err := r.Cancel(t.Context(), x.ID)
		switch {
		case err != nil:
			wantCode(t, err, wire.CodeAlreadyTerminal)
		case got.Status == wire.StatusCanceling || got.Status == wire.StatusCancelled:
			b.reaches(x.ID, wire.StatusCancelled)
		default:
			t.Errorf("cancel returned %s", got.Status)
		}
	}
	for _, id := range ids {
		var x wire.Execution
		b.until("it ends", func() bool { x = b.get(id); return x.Status.Terminal() })
		ends[x.Status]++
		b.until("the end is announced", func() bool { s := h.of(id); return len(s) > 0 && s[len(s)-1].Terminal() })
		statuses := h.of(id)
		terminal := slices.DeleteFunc(slices.Clone(statuses), func(s wire.Status) bool { return !s.Terminal() })
		if len(terminal) != 1 || statuses[len(statuses)-1] != x.Status {
			t.Errorf("execution %d is %s; announced were %v", id, x.Status, statuses)
		}
	}
	t.Logf("ends: %v", ends)
}

// What outlives the drain is told so.
func TestRunner_Run_Stop(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r, stop := b.run(func(cfg *runner.Config) { cfg.DrainTimeout = time.Second })
	short := b.create(r, "core.sleep", `{"seconds":0.5}`)
	long := b.create(r, "core.sleep", `{"seconds":600}`)
	canceled := b.create(r, "core.sleep", `{"seconds":600}`)
	for _, x := range []wire.Execution{short, long, canceled} {
		b.reaches(x.ID, wire.StatusRunning)
	}
	if _, err := r.Cancel(t.Context(), canceled.ID); err != nil {
		t.Fatal(err)
	}
	stop()
	equal(t, "short", b.get(short.ID).Status, wire.StatusCompleted)
	equal(t, "cancelled", b.get(canceled.ID).Status, wire.StatusCancelled)
	x := b.get(long.ID)
	equal(t, "long", x.Status, wire.StatusAbandoned)
	equal(t, "result", string(x.Result), `{"error": "the runner was stopped"}`)

	// What comes after is left to the next one.
	queued := b.create(r, "core.noop", "")
	equal(t, "queued", b.get(queued.ID).Status, wire.StatusRequested)
	b.run()
	b.reaches(queued.ID, wire.StatusCompleted)
}

// A job whose execution has ended already does nothing.
func TestRunner_Run_AlreadyTerminal(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	x := b.create(b.idle(), "core.echo", `{"message":"Hello!"}`)
	b.exec(`UPDATE attune.execution SET status = 'abandoned', result = '{"left": "alone"}' WHERE id = $1`, x.ID)
	gone := b.create(b.idle(), "core.noop", "")
	b.exec(`DELETE FROM attune.execution WHERE id = $1`, gone.ID)
	b.run()
	b.until("the jobs are done", func() bool {
		return b.count(`SELECT count(*) FROM attune_live.river_job WHERE state IN ('completed', 'cancelled')`) == 2
	})
	x = b.get(x.ID)
	if x.Status != wire.StatusAbandoned || string(x.Result) != `{"left": "alone"}` {
		t.Errorf("got %s with %s", x.Status, x.Result)
	}
}

// An action that was started once is not started again.
func TestRunner_Run_NeverTwice(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for status, want := range map[wire.Status]wire.Status{wire.StatusRunning: wire.StatusAbandoned, wire.StatusCanceling: wire.StatusCancelled} {
		x := b.create(b.idle(), "core.echo", `{"message":"Hello!"}`)
		b.exec(`UPDATE attune.execution SET status = $2::text::attune.execution_status_enum WHERE id = $1`, x.ID, string(status))
		_, stop := b.run()
		x = b.reaches(x.ID, want)
		if strings.Contains(string(x.Result), "Hello!") {
			t.Errorf("%s: it was run", status)
		}
		stop()
	}
}

// The end of an execution is written as soon as the database lets us.
func TestRunner_Run_EndIsRetried(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.exec(`CREATE SEQUENCE refusals;
		CREATE FUNCTION refuse_thrice() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN IF nextval(''refusals'') <= 3 THEN RAISE EXCEPTION ''not now''; END IF; RETURN NEW; END';
		CREATE TRIGGER refuse BEFORE UPDATE ON attune.execution FOR EACH ROW WHEN (NEW.status = 'completed') EXECUTE FUNCTION refuse_thrice()`)
	r, _ := b.run()
	x := b.reaches(b.create(r, "core.echo", `{"message":"Hello!"}`).ID, wire.StatusCompleted)
	equal(t, "result", string(x.Result), `{"message": "Hello!"}`)
	if n := b.count(`SELECT last_value FROM refusals`); n != 4 {
		t.Errorf("written at attempt %d, want 4", n)
	}
}

// Two runners on one database share the work.
func TestRunner_Run_Two(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r, _ := b.run(func(cfg *runner.Config) { cfg.Workers = 2 })
	b.run(func(cfg *runner.Config) { cfg.Workers = 2 })
	// Four at once need both.
	var ids []int64
	for range 4 {
		ids = append(ids, b.create(r, "core.sleep", `{"seconds":600}`).ID)
	}
	for _, id := range ids {
		b.reaches(id, wire.StatusRunning)
	}
	if n := b.count(`SELECT count(DISTINCT attempted_by[1]) FROM attune_live.river_job`); n != 2 {
		t.Errorf("%d runners worked, want 2", n)
	}
	for _, id := range ids {
		if _, err := r.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		b.reaches(id, wire.StatusCancelled)
	}
	for range 50 {
		ids = append(ids, b.create(r, "core.noop", "").ID)
	}
	for _, id := range ids[4:] {
		b.reaches(id, wire.StatusCompleted)
	}
}

// Two servers share a database, each with a table of its own: neither runs the
// other's executions, though the ids are the same.
func TestRunner_Run_TwoTables(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := pg.Migrate(t.Context(), b.pool, "other"); err != nil {
		t.Fatal(err)
	}
	other, err := pg.OpenExecutions(t.Context(), b.pool, "other")
	if err != nil {
		t.Fatal(err)
	}
	idle := b.idle(func(cfg *runner.Config) { cfg.Store = other })
	theirs := b.create(idle, "core.noop", "")
	r, _ := b.run()
	ours := b.create(r, "core.noop", "")
	equal(t, "id", ours.ID, theirs.ID)
	b.reaches(ours.ID, wire.StatusCompleted)
	if x, err := other.Get(t.Context(), theirs.ID); err != nil || x.Status != wire.StatusRequested {
		t.Errorf("the other's is %s, error %v", x.Status, err)
	}
}

// Every connection breaks in the midst of an action, the listening ones too.
func TestRunner_Run_AllConnectionsLost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r, _ := b.run()
	x := b.create(r, "core.sleep", `{"seconds":1}`)
	canceled := b.create(r, "core.sleep", `{"seconds":600}`)
	b.reaches(x.ID, wire.StatusRunning)
	b.reaches(canceled.ID, wire.StatusRunning)
	b.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	b.pool.Reset() // this test's own reads are not what is tested
	b.until("it can be cancelled", func() bool {
		_, err := r.Cancel(t.Context(), canceled.ID)
		return err == nil
	})
	b.reaches(canceled.ID, wire.StatusCancelled)
	b.reaches(x.ID, wire.StatusCompleted)
	b.reaches(b.create(r, "core.noop", "").ID, wire.StatusCompleted)
}

// What fails before the action was started is tried again.
func TestRunner_Run_StartIsRetried(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.exec(`CREATE SEQUENCE refusals;
		CREATE FUNCTION refuse_once() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN IF nextval(''refusals'') <= 1 THEN RAISE EXCEPTION ''not now''; END IF; RETURN NEW; END';
		CREATE TRIGGER refuse BEFORE UPDATE ON attune.execution FOR EACH ROW WHEN (NEW.status = 'scheduled') EXECUTE FUNCTION refuse_once()`)
	r, _ := b.run()
	b.reaches(b.create(r, "core.echo", `{"message":"Hello!"}`).ID, wire.StatusCompleted)
}

// A job that was given up before its action was started leaves nothing waiting.
func TestRunner_Run_Discarded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	x := b.create(b.idle(), "core.noop", "")
	b.exec(`UPDATE attune_live.river_job SET state = 'discarded', finalized_at = now() - interval '1 day'`)
	b.run()
	b.reaches(x.ID, wire.StatusAbandoned)
}

func TestRunner_Run_WithoutMigrate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.exec(`DROP SCHEMA attune_live CASCADE`)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := b.idle().Run(ctx)
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want one about the missing tables", err)
	}
}

// TestRunner_Run_OneListener: PostgreSQL wakes each that listens for every NOTIFY in the
// database, so there is one of them.
func TestRunner_Run_OneListener(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r, _ := b.run()
	b.reaches(b.create(r, "core.echo", `{"message":"Hello!"}`).ID, wire.StatusCompleted)
	equal(t, "sessions that listen", b.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`), 1)
}
