package pg

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// How far into an interval an attempt to send the canary may last, all attempts
// together, and the wait for its return. A connection that goes deaf just after a
// canary passed is found by the next one, one interval and eight tenths later.
const (
	attemptTenths = 3 // a pooled connection that died silently costs one attempt
	sendTenths    = 6
	returnTenths  = 8
)

// A canary may stand in line behind other notifications, as long as those keep
// coming. Subscribers are told after lateIntervals; after lostIntervals the
// connection is given up.
const (
	lateIntervals = 2
	lostIntervals = 12
)

// The waits between attempts to send a canary.
const (
	sendPauseFirst = 50 * time.Millisecond
	sendPauseMost  = time.Second
)

// errDeaf ends a connection that is up but brings no notifications.
var errDeaf = errors.New("the listen connection is deaf")

// canaries proves that notifications arrive: on an interval it sends one through the
// pool, as writers do, and waits for it on the listen connection.
type canaries struct {
	pool     *pgxpool.Pool
	channel  string // this process's own
	interval time.Duration
	health   *health
}

// canary is the one under way on a listen connection.
type canary struct {
	mu      sync.Mutex
	number  uint64
	pending bool
	sent    time.Time
	back    chan struct{} // closed when it came back
}

// begin makes a new canary the one under way.
func (c *canary) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.number++
	c.pending, c.back = true, make(chan struct{})
}

// send returns the payload to send now.
func (c *canary) send() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = time.Now()
	return strconv.FormatUint(c.number, 10)
}

// received reports whether payload is that of the canary under way, and how long it
// took.
func (c *canary) received(payload string, at time.Time) (trip time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.pending || payload != strconv.FormatUint(c.number, 10) {
		return 0, false
	}
	c.pending = false
	close(c.back)
	return at.Sub(c.sent), true
}

// giveUp reports whether the canary had not come back; it does not count any more.
func (c *canary) giveUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	missing := c.pending
	c.pending = false
	return missing
}

// prove sends canaries over s, one after the other, until ctx is done or one did not
// come back: then it returns an error that wraps errDeaf. A canary that cannot be
// sent proves nothing about s: that degrades the source but does not end s, except
// at start.
func (c *canaries) prove(ctx context.Context, s *session) error {
	for ctx.Err() == nil {
		began := time.Now()
		s.canary.begin()
		switch err := c.send(ctx, &s.canary, began); {
		case err == nil:
			if err := c.await(ctx, s, began); err != nil {
				return err
			}
			sleep(ctx, time.Until(began.Add(c.interval)))
		case ctx.Err() != nil:
		case !s.canary.giveUp(): // it was sent: only the answer was lost
		case !c.health.wasLive():
			return err
		default:
			c.health.degrade(err.Error())
		}
	}
	return nil
}

// send tries to send the canary until its time is over.
func (c *canaries) send(ctx context.Context, canary *canary, began time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, began.Add(c.interval*sendTenths/10))
	defer cancel()
	for pause := sendPauseFirst; ; pause = min(2*pause, sendPauseMost) {
		// The simple protocol needs one round trip and no prepared statement: it works
		// through every pooler.
		attempt, cancel := context.WithTimeout(ctx, c.interval*attemptTenths/10)
		var usage float64
		err := c.pool.QueryRow(attempt, "SELECT pg_notification_queue_usage() FROM pg_notify($1, $2)",
			pgx.QueryExecModeSimpleProtocol, c.channel, canary.send()).Scan(&usage)
		cancel()
		if err == nil {
			c.health.queue(usage)
			return nil
		}
		if !sleep(ctx, pause) {
			if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
				err = connect.Unwrap() // it holds the password
			}
			return fmt.Errorf("send a canary to %s: %w%s", target(c.pool.Config().ConnConfig), err, remedy(err))
		}
	}
}

// await waits for the canary, whose turn began at the time began, to come back.
func (c *canaries) await(ctx context.Context, s *session, began time.Time) error {
	limit := c.interval * returnTenths / 10
	late := false
	for {
		// Whatever arrives is a sign of life: the canary may be in line behind it.
		quiet := time.Since(latest(began, s.lastRead()))
		waited := time.Since(began)
		if quiet >= limit || waited >= lostIntervals*c.interval {
			if !s.canary.giveUp() {
				return nil
			}
			return fmt.Errorf("%w: a canary of %s ago has not come back", errDeaf, waited.Round(time.Millisecond))
		}
		if waited >= lateIntervals*c.interval && !late {
			late = true
			c.health.degrade(fmt.Sprintf("notifications are more than %s behind", lateIntervals*c.interval))
		}
		timer := time.NewTimer(limit - quiet)
		select {
		case <-s.canary.back:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// latest returns the later of two times.
func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sleep waits for d; it returns false, at once, when ctx is done.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
