package client

import (
	"context"
	"sync"
	"time"
)

// watch ends a connection that is silent for too long, or that does not acknowledge
// the subscription. The time that a handler takes is not held against the server.
type watch struct {
	ack *time.Timer

	mu      sync.Mutex
	silence *time.Timer
	paused  bool
}

// newWatch starts watching; the connection ends by cancel.
func newWatch(cancel context.CancelCauseFunc) *watch {
	return &watch{
		silence: time.AfterFunc(silenceTimeout, func() { cancel(errSilent) }),
		ack:     time.AfterFunc(handshakeTimeout+ackTimeout, func() { cancel(errNoAck) }),
	}
}

// sign notes a sign of life; the next one is due within silenceTimeout.
func (w *watch) sign() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.paused {
		w.silence.Reset(silenceTimeout)
	}
}

// pause stops the clock until resume.
func (w *watch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = true
	w.silence.Stop()
}

// resume starts the clock again.
func (w *watch) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = false
	w.silence.Reset(silenceTimeout)
}

func (w *watch) acknowledged() { w.ack.Stop() }

// stop ends the watch for good.
func (w *watch) stop() {
	w.pause()
	w.ack.Stop()
}
