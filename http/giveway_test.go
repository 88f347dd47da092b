package http_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"attune/broadcast"
	attunehttp "attune/http"
)

// turns are asked for in a bubble.
type turns struct {
	t    *testing.T
	next func(due int) bool
}

// take takes a turn, the first of so many, which must be granted.
func (q turns) take(what string, due int, takes time.Duration) {
	q.t.Helper()
	if !q.next(due) {
		q.t.Fatalf("%s: refused", what)
	}
	pass(takes)
}

// rest waits until a turn is granted, for as long as it must take.
func (q turns) rest(what string, want time.Duration) {
	q.t.Helper()
	begun := time.Now()
	for !q.next(1) {
		pass(time.Millisecond)
	}
	equal(q.t, what, time.Since(begun), want)
}

func TestGiveWay(t *testing.T) {
	t.Parallel()
	unread := true
	tests := []struct {
		name string
		run  func(q turns)
	}{
		{"TwiceAsLongAsTheRound", func(q turns) {
			for left := 3; left > 0; left-- {
				q.take("what was due when the round began", left, 2*time.Millisecond)
			}
			q.rest("rest", 12*time.Millisecond)
		}},
		{"WhatCameMeanwhileWaits", func(q turns) {
			q.take("the first", 1, 2*time.Millisecond)
			q.rest("rest with more due", 4*time.Millisecond)
		}},
		{"Bounded", func(q turns) {
			q.take("the first", 1, time.Second)
			q.rest("rest", 200*time.Millisecond)
		}},
		{"NothingDue", func(q turns) {
			q.take("the first", 1, 2*time.Millisecond)
			equal(q.t, "a turn where nothing is due", q.next(0), false)
			pass(time.Second)
			q.rest("rest, long after a short round", 0)
		}},
		{"NothingUnread", func(q turns) {
			q.take("the first", 1, time.Second)
			unread = false
			q.take("the next", 1, 0)
			equal(q.t, "a turn where nothing is due", q.next(0), false)
			unread = true
			q.take("the next, with more unread again", 1, 0)
		}},
		{"NoSource", func(q turns) {
			q.next = attunehttp.Turns(nil)
			q.take("the first", 1, time.Second)
			q.take("the next", 1, time.Second)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Helper()
				unread = true
				tt.run(turns{t, attunehttp.Turns(func() bool { return unread })})
			})
		})
	}
}

// TestGiveWay_AllArrive: while there is more to read all the time, each delivery waits for
// the end of a rest, and none for anything else.
func TestGiveWay_AllArrive(t *testing.T) {
	t.Parallel()
	const followers, rounds = 100, 50
	for _, transport := range []string{"ws", "sse"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			c := follow(start(t, func(cfg *setup) { cfg.SourceUnread = func() bool { return true } }), transport, followers)
			for range rounds {
				c.publish(1) // and waits until all have it
				c.publish(16)
			}
		})
	}
}

// TestGiveWay_QueueFills: who gets far more than the others must not lose its connection to a
// rest that their deliveries make long.
func TestGiveWay_QueueFills(t *testing.T) {
	t.Parallel()
	const followers, queue, rounds, each = 2000, 1024, 400, 8
	s := start(t, func(cfg *setup) {
		cfg.SourceUnread = func() bool { return true }
		cfg.Options = broadcast.Options{QueueSize: queue, WindowSize: 1}
	})
	all := s.eventsUnread()
	for range followers {
		s.following() // mine, which the socket takes unread
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range rounds {
		<-tick.C
		s.publish(mine)
		for range each {
			s.publish(theirs)
		}
	}
	for range rounds {
		equal(t, "one for all", all.ids(1), []int64{mine})
		equal(t, "the others", all.ids(each), slices.Repeat([]int64{theirs}, each))
	}
}
