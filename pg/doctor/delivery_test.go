package doctor_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"testing"

	"attune/pg/doctor"
	"attune/pg/pgtest"
)

func TestExamine_Pooler(t *testing.T) {
	direct := database(t, platform)
	pooled := pgbouncer(t, direct)

	t.Run("InTheWay", func(t *testing.T) {
		report := examine(t, config(pooled))
		want(t, report, "reachable", doctor.OK)
		want(t, report, "pooler", doctor.Note, "before the database")
		want(t, report, "listen", doctor.Problem, "LISTEN was accepted", "pooler in transaction mode", "ATTUNE_LISTEN_URL")
	})
	t.Run("WritersOnly", func(t *testing.T) {
		cfg := config(pooled)
		cfg.ListenURL = direct
		report := examine(t, cfg)
		want(t, report, "pooler", doctor.OK, "as it should be")
		want(t, report, "listen", doctor.OK, "came back")
		want(t, report, "triggers", doctor.OK, "3 triggers")
		wantNothingToDo(t, report)
	})
	t.Run("ListenURL", func(t *testing.T) {
		cfg := config(direct)
		cfg.ListenURL = pooled
		report := examine(t, cfg)
		want(t, report, "pooler", doctor.Note, "the URL for LISTEN leads through a pooler")
		want(t, report, "listen", doctor.Problem, "ATTUNE_LISTEN_URL itself")
	})
}

func TestExamine_ListenURL(t *testing.T) {
	cfg := config(database(t, platform))
	t.Run("OtherDatabase", func(t *testing.T) {
		cfg.ListenURL = pgtest.Database(t)
		want(t, examine(t, cfg), "listen", doctor.Problem, "different databases")
	})
	t.Run("Unreachable", func(t *testing.T) {
		cfg.ListenURL = "postgres://u:s3cr3t@127.0.0.1:1/db"
		report := examine(t, cfg)
		want(t, report, "reachable", doctor.OK)
		want(t, report, "listen", doctor.Problem, "where LISTEN goes", "port 1", "check that the server runs")
		want(t, report, "keepalive", doctor.Note, "see listen")
	})
}

// pgbouncer starts a transaction pooler in front of the server of a database, ends it
// with t, and returns the URL of the database through it.
func pgbouncer(t *testing.T, rawURL string) string {
	t.Helper()
	binary, err := osexec.LookPath("pgbouncer")
	if err != nil {
		binary = "/usr/sbin/pgbouncer"
	}
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
