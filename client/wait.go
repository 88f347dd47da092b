package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"attune/wire"
)

// MinPollBudget is the end of every wait that belongs to polling: the WebSocket has
// the time before it, and a wait that is not longer does without a WebSocket.
const MinPollBudget = 10 * time.Second

// How the row is read.
const (
	firstPoll    = 500 * time.Millisecond // between looks while nothing is notified; grows by half
	longestPoll  = 2 * time.Second
	followPoll   = 15 * time.Second // between looks while notifications are
	connectGrace = 2 * time.Second  // for the subscription to stand, before polling begins
	lookTimeout  = 10 * time.Second // for one look
	lastTimeout  = 5 * time.Second  // for the last one, past the deadline
	replayGrace  = time.Second      // for replayed changes, when the row is over already
	settleGrace  = 100 * time.Millisecond
)

// WaitOptions says how to wait.
type WaitOptions struct {
	// Timeout is how long to wait; 0 looks once.
	Timeout time.Duration
	// Cursor is a position from before what is waited for, as Execute returns it: the
	// changes since are told to Progress. "" for none.
	Cursor string
	// Absent is for WaitEntity: go on while there is no such row.
	Absent bool
	// Progress is told of each step, from one goroutine; nil for nobody.
	Progress func(Event)
}

// await waits until the subject is over and returns it as it was last seen, its zero
// value if it never was.
//
// It subscribes, waits for the acknowledgement, reads the row and then waits: a change
// in any gap of that sequence is seen. Notifications are the fast way, reading the row
// the sure one: it is read when a notification gives reason to, when one may be missing,
// every 15 s while connected, and every 0.5 to 2 s while not.
//
// When the time is over it looks once more and returns unmet, or the error of that
// look; when ctx is done, its cause.
func await[T any](ctx context.Context, c *Client, s subject[T], opts WaitOptions) (T, error) {
	if opts.Timeout < 0 {
		var none T
		return none, fmt.Errorf("timeout %s: want 0 or more", opts.Timeout)
	}
	if opts.Progress == nil {
		opts.Progress = func(Event) {}
	}
	w := &waiter[T]{client: c, subject: s, opts: opts, steps: make(chan func())}
	if opts.Timeout > 0 {
		w.observe(ctx)
	}
	if !w.done && ctx.Err() == nil {
		w.last(ctx)
	}
	if !w.done && ctx.Err() != nil {
		w.err = context.Cause(ctx)
	}
	return w.seen.value, w.err
}

// waiter is one call of await. Its fields belong to the loop of observe: whatever
// happens elsewhere is sent there as a step.
type waiter[T any] struct {
	client  *Client
	subject subject[T]
	opts    WaitOptions
	steps   chan func()

	done bool
	err  error
	seen sight[T] // as last read

	facts     facts // as last told, by notification or row
	ended     bool  // a notification told the end
	following bool  // subscribed, and the source is live
	connected bool  // subscribed
	sessions  int   // subscriptions so far
	replayed  bool  // changes before the next look are on their way
	polls     time.Duration

	looking, again bool
	look           *time.Timer // starts the next look
	grace          *time.Timer // ends the wait for replayed changes
}

// observe waits until the subject is over, reading is refused, or the time is over.
func (w *waiter[T]) observe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, w.opts.Timeout)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()

	w.look, w.grace = time.NewTimer(connectGrace), time.NewTimer(time.Hour)
	w.grace.Stop()
	defer w.look.Stop()
	defer w.grace.Stop()

	if budget := w.opts.Timeout - MinPollBudget; budget > 0 {
		tasks.Go(func() { w.follow(ctx, budget) })
	} else {
		w.poll(nil)
	}
	for !w.done {
		select {
		case step := <-w.steps:
			step()
		case <-w.look.C:
			w.looking = true
			tasks.Go(func() { w.read(ctx) })
		case <-w.grace.C:
			w.finish()
		case <-ctx.Done():
			if w.seen.over { // only replayed changes were missing
				w.finish()
			}
			return
		}
	}
}

// do hands a step to the loop, unless the wait is over.
func (w *waiter[T]) do(ctx context.Context, step func()) {
	select {
	case w.steps <- step:
	case <-ctx.Done():
	}
}

// follow subscribes and hands what it hears to the loop, for as long as budget.
func (w *waiter[T]) follow(ctx context.Context, budget time.Duration) {
	stream, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	err := w.client.Stream(stream, []string{w.subject.filter}, StreamOptions{
		Cursor:    w.opts.Cursor,
		Connected: func(url string) { w.do(ctx, func() { w.tell(Connected{url}) }) },
		Lost:      func(err error, retry time.Duration) { w.do(ctx, func() { w.lost(err, retry) }) },
	}, func(m wire.ServerMessage) error {
		w.do(ctx, func() { w.message(m) })
		return nil
	})
	if stream.Err() != nil {
		err = nil // its time is over, which is no fault
	}
	w.do(ctx, func() { w.poll(err) })
}

// message takes what the server sent.
func (w *waiter[T]) message(m wire.ServerMessage) {
	switch m := m.(type) {
	case wire.Welcome:
		w.following = m.Mode != wire.ModeDegraded
		w.tell(Session{m.ClientID})
		if !w.following {
			w.tell(ModeChanged{m.Mode})
		}
	case wire.Subscribed:
		w.tell(Subscribed{m.Filter})
		w.connected = true
		w.replayed = w.opts.Cursor != "" || w.sessions > 0
		w.sessions++
		w.lookNow()
	case wire.Notification:
		w.notified(m)
	case wire.Gap:
		w.tell(Missed{m.Reason})
		w.replayed = false
		if w.seen.over {
			w.finish()
			return
		}
		w.lookNow()
	case wire.SourceStatus:
		w.tell(ModeChanged{m.Mode})
		w.following = m.Mode != wire.ModeDegraded
		w.polls = 0
		w.lookNow()
	case wire.Bye, wire.Unsubscribed, wire.Pong, wire.Authenticated, *wire.Error:
	}
}

// notified takes a notification of the subject.
func (w *waiter[T]) notified(n wire.Notification) {
	heard, means := w.subject.hear(n)
	if heard.event != nil {
		w.facts = heard.facts
		w.tell(heard.event)
	}
	switch means {
	case goesOn:
	case unclear:
		w.lookNow()
	case ended:
		w.ended = true
		if w.seen.over {
			w.finish()
			return
		}
		w.lookNow()
	case reached:
		if !w.seen.over {
			w.seen = heard
		}
		w.finish()
	}
}

// lost notes that there is no connection now.
func (w *waiter[T]) lost(err error, retry time.Duration) {
	w.tell(Lost{Err: err, Retry: retry})
	w.unfollow()
}

// poll goes over to reading the row, for good.
func (w *waiter[T]) poll(err error) {
	w.tell(Polling{err})
	w.unfollow()
}

func (w *waiter[T]) unfollow() {
	w.connected, w.following, w.replayed = false, false, false
	w.polls = 0
	if w.seen.over {
		w.finish()
		return
	}
	w.lookNow()
}

// lookNow reads the row, again if it is being read: that answer may be older than
// the reason to look.
func (w *waiter[T]) lookNow() {
	if w.looking {
		w.again = true
		return
	}
	w.look.Reset(0)
}

// read reads the row and hands the answer to the loop.
func (w *waiter[T]) read(ctx context.Context) {
	look, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	s, err := w.subject.read(look)
	w.do(ctx, func() { w.looked(s, err) })
}

// looked takes what reading the row gave.
func (w *waiter[T]) looked(s sight[T], err error) {
	w.looking = false
	again := w.again
	w.again = false
	switch {
	case err != nil && final(err):
		w.done, w.err = true, err
		return
	case err != nil:
		w.tell(ReadFailed{err})
	default:
		w.seen = s
	}
	if s.over {
		w.settle()
		return
	}
	if err == nil {
		w.replayed = false
		if !w.connected || !w.following {
			w.told()
		}
	}
	if again {
		w.lookNow()
		return
	}
	w.look.Reset(w.pause())
}

// pause returns how long to wait before the next look.
func (w *waiter[T]) pause() time.Duration {
	if w.following && w.connected && !w.ended {
		return followPoll
	}
	w.polls = min(max(w.polls*3/2, firstPoll), longestPoll)
	return w.polls
}

// settle ends the wait on a row that is over, once the changes that led there are told.
func (w *waiter[T]) settle() {
	switch {
	case !w.connected || w.ended:
		w.finish()
	case w.replayed:
		w.grace.Reset(replayGrace)
	case w.sessions == 1 && w.facts == nil && w.opts.Cursor == "":
		w.finish() // it had ended before anybody asked
	default:
		w.grace.Reset(settleGrace) // its notification may be under way
	}
}

// finish ends the wait with the row as it was read.
func (w *waiter[T]) finish() {
	w.told()
	w.done = true
}

// told tells the row unless all it says was told before.
func (w *waiter[T]) told() {
	if w.seen.event != nil && !w.seen.facts.within(w.facts) {
		w.facts = w.seen.facts
		w.tell(w.seen.event)
	}
}

func (w *waiter[T]) tell(e Event) { w.opts.Progress(e) }

// last looks once more when the time is over.
func (w *waiter[T]) last(ctx context.Context) {
	look, cancel := context.WithTimeout(ctx, lastTimeout)
	defer cancel()
	s, err := w.subject.read(look)
	switch {
	case err != nil:
		w.err = err
	case s.over:
		w.seen = s
		w.finish()
	default:
		w.seen, w.err = s, w.subject.unmet
	}
}
