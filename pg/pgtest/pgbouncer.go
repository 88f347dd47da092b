package pgtest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// PgBouncer starts a transaction pooler in front of the server of a database, ends it
// with t, and returns the URL of the database through it.
func PgBouncer(t *testing.T, database string) string {
	t.Helper()
	binary, err := exec.LookPath("pgbouncer")
	if err != nil {
		binary = "/usr/sbin/pgbouncer" // where Debian has it, and not everybody's PATH leads
	}
	u, err := url.Parse(database)
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
	cmd := exec.CommandContext(t.Context(), binary, args...) //nolint:gosec // found above
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // killed: that is its error
	u.Host = net.JoinHostPort("127.0.0.1", port)
	deadline := time.Now().Add(time.Minute)
	for {
		var dialer net.Dialer
		conn, err := dialer.DialContext(t.Context(), "tcp", u.Host)
		if err == nil {
			_ = conn.Close()
			return u.String()
		}
		if time.Now().After(deadline) {
			t.Fatalf("pgbouncer accepts no connections: %v", err)
		}
		<-time.After(20 * time.Millisecond)
	}
}
