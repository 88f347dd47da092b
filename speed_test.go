package main_test

import (
	"slices"
	"testing"
	"time"

	"attune/attunetest"
	"attune/pg/pgtest"
	"attune/wire"
)

// How long after the terminal commit `--wait` returns: from the row's updated, which
// is when its transaction began, to the exit of the client's process. It is to be
// 50 ms on a machine that does nothing else; the limit leaves room for one that does.
//
// Not parallel: this way nothing of this package runs beside it.
func TestWait_Speed(t *testing.T) {
	const runs, limit = 31, 250 * time.Millisecond
	s := serveWithRunner(t, pgtest.Database(t))
	for _, how := range []struct {
		name string
		args []string
	}{
		// Subscribed when it ends, and ended before anybody can be.
		{"Running", []string{"core.sleep", "--param", "seconds=0.1"}},
		{"AtOnce", []string{"core.noop"}},
	} {
		t.Run(how.name, func(t *testing.T) {
			var all []time.Duration
			for range runs {
				waiter := s.start(t, append([]string{"action", "execute", "--wait", "--json"}, how.args...)...)
				if code := waiter.wait(); code != 0 {
					t.Fatalf("exit code %d", code)
				}
				all = append(all, waiter.ended.Sub(decode[wire.Execution](t, waiter.stdout.String()).Updated))
			}
			slices.Sort(all)
			median := all[runs/2]
			t.Logf("--wait returns after the terminal commit: median %s, least %s, most %s (race detector: %t)",
				median.Round(10*time.Microsecond), all[0].Round(10*time.Microsecond), all[runs-1].Round(10*time.Microsecond), attunetest.RaceEnabled())
			if median > limit {
				t.Errorf("median %s, want at most %s", median, limit)
			}
		})
	}
}
