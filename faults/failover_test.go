package faults_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"attune/faults"
	"attune/pg/local"
	"attune/pg/pgtest"
)

// node is a PostgreSQL of a pair that replicates by streaming.
type node struct {
	server *local.Server
	cfg    local.Config
}

// The primary is killed under load and the standby, which has everything that was
// acknowledged, promoted. The server's URL names both.
func TestFailover_Synchronous(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		first, cfg := pgtest.Server(t)
		primary := &node{first, cfg}
		s := sceneOn(t, source, first.URL())
		s.noGaps = false // the new primary cannot know that it has everything
		standby := primary.standby(t)
		s.db.url = both(t, primary, standby)
		s.serve(s.db.url)
		s.follow(s.server.url)
		for round := range times(1, 4) {
			if round > 0 { // the one that was killed is of no use any more: a new one, and a server that knows it
				standby = primary.standby(t)
				s.db.url = both(t, primary, standby)
				s.server.env = append(s.server.env, "DATABASE_URL="+s.db.url)
				s.fault(s.server.kill)
				s.server.start()
				s.server.ready()
			}
			primary.synchronous(t, s.db)
			stop := s.db.load(4, 200)
			pass(700 * time.Millisecond)
			s.fault(func() { killPostmaster(t, primary.cfg) })
			standby.promote(t)
			s.server.ready()
			pass(300 * time.Millisecond)
			stop()
			primary = standby
		}
		s.finish()
	})
}

// The standby has not got the last commits when the primary is killed: they were
// delivered, and exist no more. What is committed on the new primary may get their
// place in the log: no cursor from before can be trusted, and everybody is told.
func TestFailover_Lossy(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		first, cfg := pgtest.Server(t)
		primary := &node{first, cfg}
		s := sceneOn(t, source, first.URL())
		standby := primary.standby(t)
		direct := first.URL()
		s.noGaps = false
		s.serve(both(t, primary, standby))
		s.follow(s.server.url)
		s.db.commit(50, 10)
		caughtUp(t, s.db)
		if err := standby.server.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.db.commit(times(100, 1000), 10) // the standby will never hear of these
		fence := s.db.fence()
		for _, c := range s.clients {
			if !c.await(patience, func() bool { return c.fences[fence] }) {
				t.Errorf("client %s has not seen what is lost later", c.record.Name)
			}
		}
		before, _ := s.db.commits()
		s.fault(func() { killPostmaster(t, primary.cfg) })
		standby.server = startAgain(t, standby.cfg)
		standby.promote(t)
		s.db.url = at(t, direct, hostOf(t, standby.server.URL()))
		kept, _ := s.db.commits()
		if len(kept) >= len(before) {
			t.Fatal("nothing was lost: nothing is proved")
		}
		s.db.lost = before[len(kept):]
		s.db.kept = len(kept)
		s.server.ready()
		s.subscribed()
		s.note = fmt.Sprintf("%d lost with the primary", len(s.db.lost))
		s.allTold()
		s.db.bulk(300, 10) // from positions that were given before
		s.db.commit(200, 10)
		s.finish()
		for _, c := range s.clients {
			// It is the same log: only that its last rows may be others.
			if gaps := c.gaps(); !slices.Contains(gaps, "listener_reconnected") {
				t.Errorf("client %s was told of the gaps %q", c.record.Name, gaps)
			}
		}
	})
}

// both returns a URL that leads to whichever of two nodes can be written to.
func both(t *testing.T, a, b *node) string {
	t.Helper()
	url := at(t, a.server.URL(), hostOf(t, a.server.URL())+","+hostOf(t, b.server.URL()))
	return url + "&target_session_attrs=read-write"
}

// standby makes a copy of a running primary and starts it as its standby.
func (n *node) standby(t *testing.T) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "attune-standby-") //nolint:usetesting // a test's own folder is closed to the user that PostgreSQL runs as
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	info, err := os.Stat(n.cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner")
	}
	// As the package that starts it leaves a data directory.
	for _, name := range []string{"password", "keeper.lock"} {
		content, err := os.ReadFile(filepath.Join(n.cfg.DataDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "keeper.lock" {
			content = nil
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	programs, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_basebackup")
	if err != nil || len(programs) == 0 {
		t.Fatalf("no pg_basebackup: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), programs[len(programs)-1], "-d", n.server.URL(),
		"-D", filepath.Join(dir, "pgdata"), "-R", "-X", "stream", "-c", "fast")
	cmd.Dir = dir
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	cfg := n.cfg
	cfg.DataDir = dir
	return &node{startAgain(t, cfg), cfg}
}

// synchronous makes the primary acknowledge a commit when the standby has it.
func (n *node) synchronous(t *testing.T, db *database) {
	t.Helper()
	db.exec(`ALTER SYSTEM SET synchronous_standby_names = '*'`)
	db.exec(`SELECT pg_reload_conf()`)
	eventually(t, "replication is synchronous", func() bool {
		return value[int](db, `SELECT count(*)::int FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'`) == 1
	})
}

// caughtUp waits until the standby has everything.
func caughtUp(t *testing.T, db *database) {
	t.Helper()
	eventually(t, "the standby has caught up", func() bool {
		return value[int](db, `SELECT count(*)::int FROM pg_stat_replication WHERE flush_lsn >= pg_current_wal_lsn()`) == 1
	})
}

// promote makes a standby a primary.
func (n *node) promote(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	db := &database{t: t, url: n.server.URL()}
	conn, err := db.connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var done bool
	if err := conn.QueryRow(ctx, `SELECT pg_promote()`).Scan(&done); err != nil || !done {
		t.Fatalf("pg_promote: %t, %v", done, err)
	}
	if _, err := conn.Exec(ctx, `ALTER SYSTEM RESET synchronous_standby_names`); err != nil && !strings.Contains(err.Error(), "read-only") {
		t.Fatal(err)
	}
	_, _ = conn.Exec(ctx, `SELECT pg_reload_conf()`)
}

// allTold waits until every client was told of a gap, which excuses nothing that is asked
// for from then on.
func (s *scene) allTold() {
	s.t.Helper()
	for _, c := range s.clients {
		eventually(s.t, "client "+c.record.Name+" is told of a gap", func() bool { return len(c.gaps()) > 0 })
	}
}

// gaps returns the reasons of the gaps that the client was told of.
func (c *client) gaps() (reasons []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.record.Connections {
		for i := range conn.Frames {
			if f := &conn.Frames[i]; f.Kind == faults.KindGap {
				reasons = append(reasons, f.Reason)
			}
		}
	}
	return reasons
}
