package faults_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"attune/pg/local"
	"attune/pg/pgtest"
)

// patience is how long the suite waits for what must happen.
const patience = 60 * time.Second

// How much is tried. Without flags every kind of fault is met, in few rounds.
//
//nolint:gochecknoglobals // flags must be there before the tests are
var (
	full = flag.Bool("full", false, "as many rounds as docs/reliability.md tells of; takes minutes")
	soak = flag.Duration("soak", 0, "repeat the faults under load for this long")
	seed = flag.Uint64("seed", 0, "seed of all randomness; 0: a new one")
)

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if code, keeper := local.Main(); keeper {
		return code // of the PostgreSQL that pgtest starts
	}
	flag.Parse()
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	fmt.Fprintf(os.Stdout, "seed %d\n", *seed)
	// What these tests do most is wait.
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// A binary built with -race lingers for a second.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "attune-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built.dir = dir
	// What toxiproxy holds for a connection whose other end has broken, it holds for ever.
	const toxiproxy = "github.com/Shopify/toxiproxy/v2"
	code := pgtest.Main(m, pgtest.WithGoroutinesLeft(
		toxiproxy+".(*ToxicLink).read", toxiproxy+".(*ToxicLink).write", toxiproxy+"/toxics.(*ToxicStub).Run"))
	results.print(os.Stdout)
	return code
}

// times returns how often something is tried.
func times(short, long int) int {
	if *full {
		return long
	}
	return short
}

// built is the binary, made when a test first asks for it.
//
//nolint:gochecknoglobals // one for all tests is the point
var built struct {
	dir         string
	race, plain build
}

// build is one way to build the binary.
type build struct {
	once sync.Once
	err  error
}

// attune returns the path of attune, built with -race if these tests are.
func attune(t *testing.T) string {
	t.Helper()
	if raceEnabled() {
		return built.race.path(t, "race", "-race")
	}
	return plainAttune(t)
}

// plainAttune returns the path of attune without the race detector, which knows 8,128
// goroutines at most.
func plainAttune(t *testing.T) string {
	t.Helper()
	return built.plain.path(t, "plain")
}

func (b *build) path(t *testing.T, name string, flags ...string) string {
	t.Helper()
	path := filepath.Join(built.dir, name, "attune")
	b.once.Do(func() {
		args := append([]string{"build", "-buildvcs=false", "-o", path}, flags...)
		out, err := exec.Command("go", append(args, "attune")...).CombinedOutput() //nolint:noctx // not one test's
		if err != nil {
			b.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return path
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
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// pass waits for d, for a fault to last or for load to go on; nothing relies on it.
func pass(d time.Duration) { <-time.After(d) }

// scenarioName is the name of the test without the source.
func scenarioName(t *testing.T) string {
	t.Helper()
	name, _, _ := strings.Cut(strings.TrimPrefix(t.Name(), "Test"), "/")
	return strings.ReplaceAll(name, "_", " ")
}
