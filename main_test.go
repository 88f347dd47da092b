// The tests of this package run attune as its users do: the binary that `go build`
// makes, in processes of its own, on a real PostgreSQL.
package main_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"attune/attunetest"
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
	// What these tests do most is wait for other processes.
	if err := flag.Set("test.parallel", "16"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return attunetest.Main(func() int { return pgtest.Main(m) })
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
