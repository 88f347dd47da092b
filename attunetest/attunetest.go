// Package attunetest gives tests the real attune: the binary that `go build` makes, built
// once for the tests of a package, when one first asks for it. Nothing is left of it when
// they end.
//
//	func TestMain(m *testing.M) { os.Exit(attunetest.Main(m.Run)) }
//
//	func TestSomething(t *testing.T) {
//		cmd := exec.CommandContext(t.Context(), attunetest.Binary(t), "serve")
//		…
//	}
package attunetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
)

// built is what this test process has built.
//
//nolint:gochecknoglobals // one per process is the point: Binary finds it without being handed it by every test
var built struct {
	dir         string // for the binaries; "" outside Main
	race, plain build
}

// build is one way to build attune.
type build struct {
	once sync.Once
	err  error
}

// Main calls run, which runs the tests of a package, and removes what was built for them.
// It returns the exit code.
func Main(run func() int) (code int) {
	// A binary built with -race lingers for a second: those of all tests together would for
	// minutes. Whoever starts one hands this variable on.
	err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	if err == nil {
		built.dir, err = os.MkdirTemp("", "attune-")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "attunetest: %v\n", err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintf(os.Stderr, "attunetest: %v\n", err)
			code = max(code, 1)
		}
	}()
	return run()
}

// Binary returns the path of attune, built as these tests are: with the race detector if
// they are.
func Binary(tb testing.TB) string {
	tb.Helper()
	if RaceEnabled() {
		return built.race.path(tb, "race", "-race")
	}
	return PlainBinary(tb)
}

// PlainBinary returns the path of attune without the race detector, which knows 8,128
// goroutines at most.
func PlainBinary(tb testing.TB) string {
	tb.Helper()
	return built.plain.path(tb, "plain")
}

// path builds attune, if that is still to be done, in a folder of that name.
func (b *build) path(tb testing.TB, name string, flags ...string) string {
	tb.Helper()
	path := filepath.Join(built.dir, name, "attune")
	b.once.Do(func() {
		if built.dir == "" {
			b.err = errors.New("TestMain does not call attunetest.Main")
			return
		}
		args := append([]string{"build", "-buildvcs=false", "-o", path}, flags...)
		out, err := exec.Command("go", append(args, "attune")...).CombinedOutput() //nolint:gosec,noctx // flags of ours, and not for one test
		if err != nil {
			b.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if b.err != nil {
		tb.Fatalf("attunetest: %v", b.err)
	}
	return path
}

// RaceEnabled reports whether these are tests with the race detector.
func RaceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
