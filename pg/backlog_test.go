package pg_test

import (
	"testing"
	"testing/synctest"
	"time"

	"attune/pg"
)

// TestBacklog: a rush is not over because nothing was unread for a moment; it is when
// less comes, or nothing.
func TestBacklog(t *testing.T) {
	t.Parallel()
	const tick = 5 * time.Millisecond
	rush := func(b pg.Backlog) {
		for range 20 {
			pass(tick)
			b.Read(500, true)
		}
	}
	tests := map[string]struct {
		run  func(b pg.Backlog)
		want bool
	}{
		"None":    {func(pg.Backlog) {}, false},
		"Unread":  {func(b pg.Backlog) { b.Read(1, true) }, true},
		"AllRead": {func(b pg.Backlog) { b.Read(1, true); b.Read(1, false) }, false},
		"ManyAtOnce": {func(b pg.Backlog) {
			pass(time.Second)
			b.Read(1000, true)
			b.Read(1, false)
		}, false},
		"ManyOnTime": {func(b pg.Backlog) {
			for range 20 {
				pass(tick)
				b.Read(500, false)
			}
		}, false},
		"Rush":      {func(b pg.Backlog) { rush(b); b.Read(1, false) }, true},
		"RushStops": {func(b pg.Backlog) { rush(b); b.Read(1, false); pass(time.Second) }, false},
		"RushSlows": {func(b pg.Backlog) {
			rush(b)
			for range 10 {
				pass(tick)
				b.Read(1, false)
			}
		}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := pg.NewBacklog()
				tt.run(b)
				if got := b.Is(); got != tt.want {
					t.Errorf("got %t, want %t", got, tt.want)
				}
			})
		})
	}
}

// pass lets the bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }
