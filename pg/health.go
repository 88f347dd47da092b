package pg

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"attune/wire"
)

// patience is how long a lost connection may take to be replaced and proved before
// subscribers are told that the source is degraded.
const patience = time.Second

// health knows how well notifications arrive and tells the sink.
//
// What it tells is in order: after a connection was lost, the gap follows the LISTEN
// on the new one, before anything that the new one brings; after a degraded period,
// a gap comes before live, at the latest with it.
type health struct {
	sink   Sink
	gap    func() // tells the sink that something may be missing
	logger *slog.Logger
	live   chan struct{} // closed with the first proof

	mu       sync.Mutex
	started  bool // there was a proof
	proven   bool // the last canary on the present connection came back
	degraded bool // as the sink was told
	owed     bool // something may be missing and no gap has said so
	problem  string
	waiting  *time.Timer // tells degraded when patience ends

	seconds    float64
	usage      float64 // of the notification queue
	at         time.Time
	reconnects uint64
	pid        uint32
}

func newHealth(sink Sink, gap func(), logger *slog.Logger) *health {
	return &health{
		sink: sink, gap: gap, logger: logger, live: make(chan struct{}),
		degraded: true, // as every sink starts
		problem:  "starting: no canary has come back yet",
	}
}

// listening says that LISTEN is active on a new connection from which nothing was
// published yet.
func (h *health) listening(pid uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pid = pid
	if h.started {
		h.reconnects++
	}
	h.tellGap()
}

// proved says that a canary came back after trip.
func (h *health) proved(ctx context.Context, trip time.Duration, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proven, h.problem = true, ""
	h.seconds, h.at = trip.Seconds(), at
	h.stopWaiting()
	h.tellGap()
	if h.degraded {
		h.degraded = false
		h.sink.SetMode(wire.ModeLive)
		h.logger.LogAttrs(ctx, slog.LevelInfo, "source live", slog.Duration("canary", trip))
	}
	if !h.started {
		h.started = true
		close(h.live)
	}
}

// queue says how full PostgreSQL's notification queue is.
func (h *health) queue(usage float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.usage = usage
}

// lost says that the connection is gone or was given up, or that none could be had.
func (h *health) lost(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proven, h.owed, h.problem, h.pid = false, true, err.Error(), 0
	if errors.Is(err, errDeaf) {
		h.tellDegraded()
	}
	if h.degraded || h.waiting != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(patience, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.waiting == timer { // else it was stopped too late
			h.tellDegraded()
		}
	})
	h.waiting = timer
}

// degrade says that notifications do not arrive, or that nothing shows that they do.
func (h *health) degrade(problem string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proven, h.problem = false, problem
	h.tellDegraded()
}

// wasLive reports whether there was a proof.
func (h *health) wasLive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.started
}

// stop makes sure that nothing is told after it.
func (h *health) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopWaiting()
	h.proven, h.problem, h.pid = false, "the listener has ended", 0
}

func (h *health) stopWaiting() {
	if h.waiting != nil {
		h.waiting.Stop()
		h.waiting = nil
	}
}

func (h *health) tellGap() {
	if h.owed {
		h.owed = false
		h.gap()
	}
}

func (h *health) tellDegraded() {
	h.stopWaiting()
	h.owed = h.started
	if h.degraded {
		return
	}
	h.degraded = true
	h.sink.SetMode(wire.ModeDegraded)
	h.logger.Warn("source degraded", slog.String("problem", h.problem))
}

// report fills in what health knows.
func (h *health) report(stats *ListenerStats) {
	h.mu.Lock()
	defer h.mu.Unlock()
	stats.Live, stats.Problem = h.proven, h.problem
	stats.CanarySeconds, stats.LastCanary = h.seconds, h.at
	stats.Reconnects, stats.BackendPID = h.reconnects, h.pid
	stats.QueueUsage = h.usage
}
