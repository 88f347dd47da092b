package runner_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"attune/wire"
)

// A process is killed in the midst of an action: the execution is told abandoned, not
// run again; what waited is run by the next one.
func TestRunner_Run_ProcessKilled(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	idle := b.idle()
	process := b.process()
	running := b.create(idle, "core.sleep", `{"seconds":600}`)
	b.reaches(running.ID, wire.StatusRunning)
	canceling := b.create(idle, "core.sleep", `{"seconds":600}`)
	b.reaches(canceling.ID, wire.StatusRunning)
	// A process that hangs does not hear of the cancellation.
	if err := process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Cancel(t.Context(), canceling.ID); err != nil {
		t.Fatal(err)
	}
	b.kill(process)
	queued := b.create(idle, "core.echo", `{"message":"Hello!"}`)
	b.exec(`INSERT INTO attune.execution (id, action_ref, status) VALUES (5000, 'slack.post', 'running')`)

	b.run()
	start := time.Now()
	x := b.reaches(running.ID, wire.StatusAbandoned)
	t.Logf("abandoned after %s, looking every %s", time.Since(start), reapInterval)
	equal(t, "result", string(x.Result), `{"error": "its process ended before it did"}`)
	b.reaches(canceling.ID, wire.StatusCancelled)
	b.reaches(queued.ID, wire.StatusCompleted)
	b.until("no job is left running", func() bool {
		return b.count(`SELECT count(*) FROM attune_live.river_job WHERE state = 'running'`) == 0
	})
	equal(t, "the platform's own", b.get(5000).Status, wire.StatusRunning)
}

// A process that merely hangs keeps its executions; when it goes on, so do they.
func TestRunner_Run_ProcessHangs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	idle := b.idle()
	process := b.process()
	x := b.create(idle, "core.sleep", `{"seconds":3}`)
	b.reaches(x.ID, wire.StatusRunning)
	if err := process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.run()
	// Another's work shows that time enough for several looks has passed.
	other := b.create(idle, "core.sleep", `{"seconds":2}`)
	b.reaches(other.ID, wire.StatusCompleted)
	equal(t, "status", b.get(x.ID).Status, wire.StatusRunning)
	if err := process.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.reaches(x.ID, wire.StatusCompleted)
}

func TestRunner_Cancel_OtherProcess(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	idle := b.idle()
	process := b.process()
	x := b.create(idle, "core.sleep", `{"seconds":600}`)
	b.reaches(x.ID, wire.StatusRunning)
	start := time.Now()
	if _, err := idle.Cancel(t.Context(), x.ID); err != nil {
		t.Fatal(err)
	}
	b.reaches(x.ID, wire.StatusCancelled)
	t.Logf("cancelled after %s", time.Since(start))
	if err := process.Process.Signal(os.Signal(syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(); err != nil {
		t.Errorf("the process ended with %v", err)
	}
}

// The connection that holds the locks breaks: they are taken again before anybody
// takes the execution for dead.
func TestRunner_Run_LockConnectionLost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r, _ := b.run()
	b.run() // somebody else looks on
	x := b.create(r, "core.sleep", `{"seconds":2}`)
	b.reaches(x.ID, wire.StatusRunning)
	const (
		backends = `FROM pg_stat_activity WHERE application_name = 'attune runner' AND datname = current_database()`
		// the backend that holds the lock, 0 if none does
		holder = `SELECT coalesce(max(pid), 0) FROM pg_locks WHERE locktype = 'advisory' AND granted
			AND pid IN (SELECT pid ` + backends + `)`
	)
	first := b.count(holder)
	if first == 0 {
		t.Fatal("nobody holds a lock")
	}
	b.exec(`SELECT pg_terminate_backend(pid) ` + backends)
	b.until("another connection holds the lock", func() bool { pid := b.count(holder); return pid != 0 && pid != first })
	b.reaches(x.ID, wire.StatusCompleted)
	b.until("the lock is free", func() bool { return b.count(holder) == 0 })
}
