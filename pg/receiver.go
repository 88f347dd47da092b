package pg

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"attune/wire"
)

// skipLogInterval is how often the skips of one reason are logged.
const skipLogInterval = time.Second

// receiver decodes plain notifications that the listen connection brings, and publishes
// what was read at once together. receive and publish are called from one goroutine.
type receiver struct {
	sink    func(...wire.Notification)
	decoded []wire.Notification // and not published
	text    []byte              // their payloads
	logger  *slog.Logger
	skips   map[SkipReason]*skipLog

	mu            sync.Mutex
	notifications map[string]uint64
	skipped       map[SkipReason]uint64
}

// skipLog is what of a reason's skips was not logged yet.
type skipLog struct {
	last  time.Time
	count int
}

func newReceiver(sink func(...wire.Notification), logger *slog.Logger) *receiver {
	return &receiver{
		sink:          sink,
		logger:        logger,
		skips:         make(map[SkipReason]*skipLog),
		notifications: make(map[string]uint64),
		skipped:       make(map[SkipReason]uint64),
	}
}

// receive takes n, received at the time at, for publish, or skips it.
func (r *receiver) receive(ctx context.Context, n notification, at time.Time) {
	var notification wire.Notification
	var err error
	r.text, notification, err = decode(r.text, n.channel, n.payload, at)
	if skip, ok := errors.AsType[*SkipError](err); ok {
		r.skip(ctx, n.channel, skip.Reason, at)
		return
	}
	r.published(n.channel)
	r.decoded = append(r.decoded, notification)
}

// publish hands over what was received since the last time.
func (r *receiver) publish() {
	if len(r.decoded) == 0 {
		return
	}
	r.sink(r.decoded...)
	clear(r.decoded)
	r.decoded, r.text = r.decoded[:0], r.text[:0]
}

// published counts a notification of that type.
func (r *receiver) published(channel string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notifications[channel]++
}

// skip counts a notification that could not be decoded and says so, with what else is
// known of it, but not for each one of a flood, and never with its content.
func (r *receiver) skip(ctx context.Context, channel string, reason SkipReason, at time.Time, known ...slog.Attr) {
	r.mu.Lock()
	r.skipped[reason]++
	r.mu.Unlock()

	log := r.skips[reason]
	if log == nil {
		log = &skipLog{}
		r.skips[reason] = log
	}
	log.count++
	if at.Sub(log.last) < skipLogInterval {
		return
	}
	r.logger.LogAttrs(ctx, slog.LevelWarn, "notification skipped", append(known,
		slog.String("channel", channel), slog.String("reason", string(reason)), slog.Int("skipped", log.count))...)
	log.last, log.count = at, 0
}

// counts returns what was published by channel and skipped by reason.
func (r *receiver) counts() (notifications map[string]uint64, skipped map[SkipReason]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.notifications), maps.Clone(r.skipped)
}
