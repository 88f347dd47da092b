package faults_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"attune/attunetest"
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
	// What toxiproxy holds for a connection whose other end has broken, it holds for ever.
	const toxiproxy = "github.com/Shopify/toxiproxy/v2"
	left := pgtest.WithGoroutinesLeft(
		toxiproxy+".(*ToxicLink).read", toxiproxy+".(*ToxicLink).write", toxiproxy+"/toxics.(*ToxicStub).Run")
	code := attunetest.Main(func() int { return pgtest.Main(m, left) })
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
