package pg_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attune/pg"
	"attune/pg/pgtest"
)

// poolers are what can stand in front of PostgreSQL so that LISTEN is accepted but no
// notification arrives. Each returns the URL that leads through it.
func poolers() map[string]func(t *testing.T, url string) string {
	all := map[string]func(t *testing.T, url string) string{
		"Muffled": func(t *testing.T, url string) string {
			t.Helper()
			p, through := newProxy(t, url)
			p.muffle()
			return through
		},
	}
	// The real thing, where it is installed.
	for _, path := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if binary, err := osexec.LookPath(path); err == nil {
			all["PgBouncer"] = func(t *testing.T, url string) string {
				t.Helper()
				return pgbouncer(t, binary, url)
			}
		}
	}
	return all
}

func TestListener_Run_Pooler(t *testing.T) {
	for name, front := range poolers() {
		t.Run(name, func(t *testing.T) {
			direct := pgtest.Database(t)
			pooled := front(t, direct)
			pool := connect(t, pooled, pg.ThroughPooler())

			t.Run("InTheWay", func(t *testing.T) {
				cfg := pg.ListenerConfig{URL: pooled, Pool: pool, CanaryInterval: interval}
				began := time.Now()
				err := pg.NewListener(cfg, newRecorder()).Run(t.Context())
				checkRefusal(t, err, []string{"LISTEN was accepted", "transaction pooler", "ATTUNE_LISTEN_URL"}, direct)
				if took := time.Since(began); took > 2*interval {
					t.Errorf("found after %s, want at most %s", took, 2*interval)
				}
			})

			t.Run("WritersOnly", func(t *testing.T) {
				sink := newRecorder()
				start(t, pg.ListenerConfig{URL: direct, Pool: pool, CanaryInterval: interval}, sink)
				for id := range 3 {
					notify(t, pool, id)
				}
				want := []string{"mode live", "notification execution 0", "notification execution 1", "notification execution 2"}
				if diff := cmp.Diff(want, sink.await(t, 0, 4)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// pgbouncer starts a transaction pooler in front of the server of a database, ends it
// with t, and returns the URL of the database through it.
func pgbouncer(t *testing.T, binary, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	free, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	ini := filepath.Join(t.TempDir(), "pgbouncer.ini")
	err = os.WriteFile(ini, fmt.Appendf(nil, `[databases]
* = host=%s port=%s user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
`, u.Hostname(), u.Port(), u.User.Username(), password, port), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{ini}
	if os.Getuid() == 0 { // which it refuses to run as
		args = []string{"-u", "nobody", ini}
	}
	// Ended by the end of the test's context.
	cmd := osexec.CommandContext(t.Context(), binary, args...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // killed: that is its error
	u.Host = net.JoinHostPort("127.0.0.1", port)
	eventually(t, "pgbouncer accepts connections", func() bool {
		var dialer net.Dialer
		conn, err := dialer.DialContext(t.Context(), "tcp", u.Host)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	return u.String()
}
