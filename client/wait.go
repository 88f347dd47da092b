package client

import (
	"context"
	"encoding/json"
	"errors"
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
	replayGrace  = time.Second      // for replayed changes, when the row is terminal already
	settleGrace  = 100 * time.Millisecond
)

// ErrStillRunning ends a wait whose time is over: the last look found the execution
// going on.
var ErrStillRunning = errors.New("the execution is still going on")

// WaitOptions says how to wait.
type WaitOptions struct {
	// Timeout is how long to wait; 0 looks once.
	Timeout time.Duration
	// Cursor is a position from before the execution, as Execute returns it: the
	// changes since are told to Progress. "" for none.
	Cursor string
	// Progress is told of each step, from one goroutine; nil for nobody.
	Progress func(Event)
}

// Wait waits until the execution is terminal and returns it.
//
// It subscribes, waits for the acknowledgement, reads the row and then waits: a change
// in any gap of that sequence is seen. Notifications are the fast way, reading the row
// the sure one: it is read when a notification says that the execution has ended, when
// one may be missing, every 15 s while connected, and every 0.5 to 2 s while not.
//
// When the time is over it looks once more and returns the execution with
// ErrStillRunning, or the error of that look. What the server refuses for good ends
// the wait at once (see Permanent); when ctx is done, its cause is returned with the
// execution as it was last seen, its zero value if it never was.
func (c *Client) Wait(ctx context.Context, id int64, opts WaitOptions) (wire.Execution, error) {
	if opts.Timeout < 0 {
		return wire.Execution{}, fmt.Errorf("wait for execution %d: timeout %s: want 0 or more", id, opts.Timeout)
	}
	if opts.Progress == nil {
		opts.Progress = func(Event) {}
	}
	w := &waiter{client: c, id: id, opts: opts, steps: make(chan func())}
	if opts.Timeout > 0 {
		w.observe(ctx)
	}
	if !w.done && ctx.Err() == nil {
		w.last(ctx)
	}
	if !w.done && ctx.Err() != nil {
		w.err = context.Cause(ctx)
	}
	if w.err != nil {
		return w.seen, fmt.Errorf("wait for execution %d: %w", id, w.err)
	}
	return w.seen, nil
}

// waiter is one call of Wait. Its fields belong to the loop of observe: whatever
// happens elsewhere is sent there as a step.
type waiter struct {
	client *Client
	id     int64
	opts   WaitOptions
	steps  chan func()

	done bool
	err  error
	seen wire.Execution // as last read

	status    wire.Status // as last told, by notification or row
	ended     bool        // a notification told a terminal status
	following bool        // subscribed, and the source is live
	connected bool        // subscribed
	sessions  int         // subscriptions so far
	replayed  bool        // changes before the next look are on their way
	polls     time.Duration

	looking, again bool
	look           *time.Timer // starts the next look
	grace          *time.Timer // ends the wait for replayed changes
}

// observe waits until the execution is terminal, reading is refused, or the time is over.
func (w *waiter) observe(ctx context.Context) {
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
			if w.seen.Status.Terminal() { // only replayed changes were missing
				w.finish()
			}
			return
		}
	}
}

// do hands a step to the loop, unless the wait is over.
func (w *waiter) do(ctx context.Context, step func()) {
	select {
	case w.steps <- step:
	case <-ctx.Done():
	}
}

// follow subscribes and hands what it hears to the loop, for as long as budget.
func (w *waiter) follow(ctx context.Context, budget time.Duration) {
	stream, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	filter := wire.EntityFilter("execution", wire.IntID(w.id).String()).String()
	err := w.client.Stream(stream, []string{filter}, StreamOptions{
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
func (w *waiter) message(m wire.ServerMessage) {
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
		if w.seen.Status.Terminal() {
			w.finish()
			return
		}
		w.lookNow()
	case wire.SourceStatus:
		w.tell(ModeChanged{m.Mode})
		w.following = m.Mode != wire.ModeDegraded
		w.polls = 0
		w.lookNow()
	case wire.Bye, wire.Unsubscribed, wire.Pong, *wire.Error:
	}
}

// notified takes a notification of the execution.
func (w *waiter) notified(n wire.Notification) {
	var row struct {
		Status wire.Status `json:"status"`
	}
	if err := json.Unmarshal(n.Payload, &row); err != nil || row.Status == "" {
		w.lookNow() // something changed, and it does not say what
		return
	}
	w.status = row.Status
	w.tell(Notified{NotificationType: n.NotificationType, Status: row.Status})
	if !row.Status.Terminal() {
		return
	}
	w.ended = true
	if w.seen.Status.Terminal() {
		w.finish()
		return
	}
	w.lookNow()
}

// lost notes that there is no connection now.
func (w *waiter) lost(err error, retry time.Duration) {
	w.tell(Lost{Err: err, Retry: retry})
	w.unfollow()
}

// poll goes over to reading the row, for good.
func (w *waiter) poll(err error) {
	w.tell(Polling{err})
	w.unfollow()
}

func (w *waiter) unfollow() {
	w.connected, w.following, w.replayed = false, false, false
	w.polls = 0
	if w.seen.Status.Terminal() {
		w.finish()
		return
	}
	w.lookNow()
}

// lookNow reads the row, again if it is being read: that answer may be older than
// the reason to look.
func (w *waiter) lookNow() {
	if w.looking {
		w.again = true
		return
	}
	w.look.Reset(0)
}

// read reads the row and hands the answer to the loop.
func (w *waiter) read(ctx context.Context) {
	look, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	e, err := w.client.Execution(look, w.id)
	w.do(ctx, func() { w.looked(e, err) })
}

// looked takes what reading the row gave.
func (w *waiter) looked(e wire.Execution, err error) {
	w.looking = false
	again := w.again
	w.again = false
	switch {
	case err != nil && Permanent(err):
		w.done, w.err = true, err
		return
	case err != nil:
		w.tell(ReadFailed{err})
	default:
		w.seen = e
	}
	if e.Status.Terminal() {
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
func (w *waiter) pause() time.Duration {
	if w.following && w.connected && !w.ended {
		return followPoll
	}
	w.polls = min(max(w.polls*3/2, firstPoll), longestPoll)
	return w.polls
}

// settle ends the wait on a terminal row, once the changes that led there are told.
func (w *waiter) settle() {
	switch {
	case !w.connected || w.ended:
		w.finish()
	case w.replayed:
		w.grace.Reset(replayGrace)
	case w.sessions == 1 && w.status == "" && w.opts.Cursor == "":
		w.finish() // it had ended before anybody asked
	default:
		w.grace.Reset(settleGrace) // its notification may be under way
	}
}

// finish ends the wait with the row as it was read.
func (w *waiter) finish() {
	w.told()
	w.done = true
}

// told tells the row's status unless it was told before.
func (w *waiter) told() {
	if w.seen.Status.Canonical() != w.status.Canonical() {
		w.status = w.seen.Status
		w.tell(Read{w.status})
	}
}

func (w *waiter) tell(e Event) { w.opts.Progress(e) }

// last looks once more when the time is over.
func (w *waiter) last(ctx context.Context) {
	look, cancel := context.WithTimeout(ctx, lastTimeout)
	defer cancel()
	e, err := w.client.Execution(look, w.id)
	switch {
	case err != nil:
		w.err = err
	case e.Status.Terminal():
		w.seen = e
		w.finish()
	default:
		w.seen, w.err = e, ErrStillRunning
	}
}
