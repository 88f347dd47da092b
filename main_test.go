// The tests of this package run attune as its users do: the binary that `go build`
// makes, in processes of its own, on a real PostgreSQL.
package main_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"attune/pg/local"
	"attune/pg/pgtest"
)

// patience is how long a test waits for what must happen. It is not how long it may
// take: where that matters it is measured.
const patience = 40 * time.Second

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if code, keeper := local.Main(); keeper {
		return code // of the PostgreSQL that pgtest starts
	}
	// A binary built with -race lingers for a second: those of these tests together
	// would for minutes.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "attune-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built.dir = dir
	// What these tests do most is wait for other processes.
	if err := flag.Set("test.parallel", "16"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return pgtest.Main(m)
}

// built is the binary, made when a test first asks for it.
//
//nolint:gochecknoglobals // one for all tests is the point
var built struct {
	dir  string // removed after the tests
	once sync.Once
	err  error
}

// binary returns the path of attune, built as these tests are: with -race if they
// are.
func binary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		args := []string{"build", "-buildvcs=false", "-o", built.dir}
		if raceEnabled() {
			args = append(args, "-race")
		}
		out, err := exec.Command("go", append(args, ".")...).CombinedOutput() //nolint:noctx // not one test's
		if err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "attune")
}

// raceEnabled reports whether this is a test with the race detector.
func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// eventually waits until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
