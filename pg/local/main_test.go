//go:build linux

// The tests look at processes through /proc.

package local_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"attune/pg/local"
)

// parentMark has the test binary play an attune that a test can kill: it
// starts PostgreSQL on the data directory that the variable names, prints the
// URL, and waits for the end of its stdin.
const parentMark = "LOCAL_TEST_PARENT"

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if code, keeper := local.Main(); keeper {
		return code
	}
	if dir := os.Getenv(parentMark); dir != "" {
		return parent(dir)
	}
	// A binary built with -race lingers for a second; the keepers of all these
	// tests together would for a minute.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func parent(dir string) int {
	s, err := local.Start(context.Background(), config(dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, s.URL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 3 // without Stop: the keeper is to notice
}

// startParent runs a parent and returns it when its PostgreSQL is there.
func startParent(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Args = []string{os.Args[0]}
	cmd.Env = append(os.Environ(), parentMark+"="+dir)
	cmd.Stderr = t.Output()
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("parent said %q: %v", line, err)
	}
	return cmd
}

// config is for speed: what a crash of the machine would do is not tested.
func config(dir string) local.Config {
	return local.Config{
		DataDir:  dir,
		Settings: map[string]string{"fsync": "off"},
	}
}

// dataDir returns the path of a data directory that does not exist yet, in a
// directory that other users can enter, as t.TempDir's can not be by them.
func dataDir(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp("", "attune-local-") //nolint:usetesting // others must be able to enter it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(base, "data")
}

// start starts a server that is stopped at the end of the test, which must
// leave no PostgreSQL behind.
func start(t *testing.T, cfg local.Config) *local.Server {
	t.Helper()
	s, err := local.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop(t, s)
		wantNoServer(t, cfg.DataDir)
	})
	return s
}

func stop(t *testing.T, s *local.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// execute runs a statement and returns the first column of its row, if any.
func execute(t *testing.T, url, statement string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), statement)
	if err != nil {
		t.Fatal(err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return strings.Join(values, ",")
}

// Every test that keeps data keeps this.
const (
	write = "CREATE TABLE kept AS SELECT 'as it was' AS body"
	read  = "SELECT body FROM kept"
)

func wantData(t *testing.T, s *local.Server) {
	t.Helper()
	if got := execute(t, s.URL(), read); got != "as it was" {
		t.Errorf("kept data = %q, want %q", got, "as it was")
	}
}

// wantNoServer waits until no process of the server is left, which all have
// the lock, nor its keeper.
func wantNoServer(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"postgres.lock", "keeper.lock"} {
		eventually(t, name+" to be free", func() bool {
			f, err := os.Open(filepath.Join(dir, name))
			if os.IsNotExist(err) {
				return true
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil
		})
	}
}

// keeperPID and postmasterPID read what runs on a data directory.
func keeperPID(t *testing.T, dir string) int {
	t.Helper()
	return pidIn(t, filepath.Join(dir, "keeper.lock"))
}

func postmasterPID(t *testing.T, dir string) int {
	t.Helper()
	return pidIn(t, filepath.Join(dir, "pgdata", "postmaster.pid"))
}

func pidIn(t *testing.T, path string) int {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(content))[0])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}
