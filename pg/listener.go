package pg

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/wire"
)

// Defaults of a ListenerConfig.
const (
	DefaultCanaryInterval    = 5 * time.Second
	DefaultHeartbeatInterval = time.Minute
)

// Sink is where notifications go; a broadcast.Hub is one. It starts as degraded. Its
// methods must be quick and must not call the Listener.
type Sink interface {
	// Publish hands over notifications without cursors, in order. It may give them
	// cursors, and must keep neither the slice nor their payloads.
	Publish(ns ...wire.Notification)
	// Gap says that notifications may be missing here.
	Gap(reason wire.GapReason)
	// SetMode says that the source's health has changed.
	SetMode(mode wire.Mode)
}

// ListenerConfig says what a Listener listens to.
type ListenerConfig struct {
	// URL is where the listen connection goes. It must be a session of its own, so
	// not behind a transaction pooler.
	URL string
	// Pool is the way that writers go: canaries are sent through it.
	Pool *pgxpool.Pool
	// Channels are the PostgreSQL channels; none: DefaultChannels.
	Channels []string
	// CanaryInterval is the time between canaries; 0: DefaultCanaryInterval. A source
	// that fell deaf is found within two of them.
	CanaryInterval time.Duration
	// HeartbeatInterval is how long there may be no notification before a log line
	// says that there was none; 0: DefaultHeartbeatInterval.
	HeartbeatInterval time.Duration
	// Controls hear what is not for clients.
	Controls []Control
	// Logger may be nil.
	Logger *slog.Logger
}

// ControlChannel is the PostgreSQL channel on which servers are told what is for them
// and not for clients.
const ControlChannel = "attune_control"

// Control hears what is said on channels of its own, to which it comes on the one listen
// connection: PostgreSQL wakes each that listens for every NOTIFY in the database. Its
// methods are called from one goroutine, which delivers nothing meanwhile.
type Control interface {
	// Channels are its channels; clients hear nothing of them.
	Channels() []string
	// Opened is called when LISTEN is active on a new connection: what was said before
	// was not heard. The error has the connection made anew.
	Opened(ctx context.Context) error
	// Receive takes a payload, received on a channel at the time at.
	Receive(ctx context.Context, channel, payload string, at time.Time)
}

// Listener keeps one connection that LISTENs on all channels and hands what arrives
// to a Sink, in commit order.
//
// It does not believe a connection because it is open. On an interval it sends a
// canary through the pool and must receive it on the listen connection; one that is
// deaf (half-open, a pooler in between, UNLISTEN) is torn down and made anew. The
// sink hears of it: degraded at once when the connection is deaf, after a second
// when it is lost; a gap once LISTEN is active again, before anything that the new
// connection brings; live when a canary passes.
type Listener struct {
	cfg      ListenerConfig
	channels []string
	controls map[string]Control // by channel
	canaries canaries
	feed     feed
	receiver *receiver
	health   *health
	backoff  backoff
	backlog  *backlog
}

// ListenerStats is a snapshot of a Listener.
type ListenerStats struct {
	// Live: the last canary came back.
	Live bool `json:"live"`
	// Problem is what is wrong now, "" while Live.
	Problem string `json:"problem"`
	// CanarySeconds is how long the last canary took.
	CanarySeconds float64 `json:"canary_seconds"`
	// LastCanary is when the last canary came back, zero if none has.
	LastCanary time.Time `json:"last_canary,omitzero"`
	Reconnects uint64    `json:"reconnects"`
	// QueueUsage is how full PostgreSQL's notification queue is, 0 to 1; at 1 every
	// NOTIFY fails. It drains as fast as its slowest listener.
	QueueUsage float64 `json:"queue_usage"`
	// BackendPID is the server process of the listen connection, 0 without one.
	BackendPID uint32   `json:"backend_pid"`
	Channels   []string `json:"channels"`
	// Notifications counts what was published, by channel.
	Notifications map[string]uint64 `json:"notifications"`
	// Skipped counts what could not be decoded, by reason.
	Skipped map[SkipReason]uint64 `json:"skipped"`
	// Log is how the log is followed, nil for the source listen.
	Log *LogStats `json:"log,omitempty"`
}

// NewListener returns a Listener for the source listen, where a notification is the
// NOTIFY payload. It starts nothing: see Run.
func NewListener(cfg ListenerConfig, sink Sink) *Listener {
	l := newListener(cfg, sink, func() { sink.Gap(wire.GapListenerReconnected) })
	l.receiver = newReceiver(sink.Publish, l.cfg.Logger)
	l.feed = plainFeed{receiver: l.receiver}
	return l
}

// NewLogListener returns a Listener for the source log: a notification is a row of
// log. Nothing is missing after an outage, so no gap is told: the log is read. What
// is not logged, plain NOTIFYs on the configured channels, reaches live subscribers
// only.
func NewLogListener(cfg ListenerConfig, log *Log, sink LogSink) *Listener {
	l := newListener(cfg, sink, func() {})
	l.receiver = newReceiver(sink.PublishUnlogged, l.cfg.Logger)
	l.feed = &logFeed{log: log, sink: sink, receiver: l.receiver, logger: l.cfg.Logger, backlog: l.backlog}
	return l
}

// newListener fills in the defaults; gap tells the sink that something may be missing.
func newListener(cfg ListenerConfig, sink Sink, gap func()) *Listener {
	if len(cfg.Channels) == 0 {
		cfg.Channels = DefaultChannels()
	}
	if cfg.CanaryInterval == 0 {
		cfg.CanaryInterval = DefaultCanaryInterval
	}
	if cfg.HeartbeatInterval == 0 {
		cfg.HeartbeatInterval = DefaultHeartbeatInterval
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	health := newHealth(sink, gap, cfg.Logger)
	controls := make(map[string]Control)
	for _, c := range cfg.Controls {
		for _, name := range c.Channels() {
			controls[name] = c
		}
	}
	return &Listener{
		cfg:      cfg,
		channels: unique(cfg.Channels),
		controls: controls,
		canaries: canaries{
			pool: cfg.Pool, channel: "attune_canary_" + hex.EncodeToString(id[:]),
			interval: cfg.CanaryInterval, health: health,
		},
		health:  health,
		backlog: newBacklog(),
	}
}

// Run listens until ctx is done; then it returns nil. It returns an error, at once,
// if the source cannot be had at start: a wrong configuration, no server, a standby,
// a pooler in the way. Once the source was live, Run reconnects for as long as it
// takes. It may be called once.
func (l *Listener) Run(ctx context.Context) error {
	config, err := l.validate()
	if err != nil {
		return err
	}
	defer l.health.stop()
	for {
		err := l.session(ctx, config)
		if ctx.Err() != nil {
			return nil
		}
		if !l.health.wasLive() {
			return l.startError(config, err)
		}
		l.health.lost(err)
		wait := l.backoff.wait()
		l.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "listen connection down",
			slog.Any("err", err), slog.Duration("retry_in", wait))
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// Live returns a channel that is closed when the first canary has come back.
func (l *Listener) Live() <-chan struct{} { return l.health.live }

// Unread reports whether more comes than is read, or did a quarter of a second ago at
// most: whoever delivers may leave the listener time for it.
func (l *Listener) Unread() bool { return l.backlog.is() }

// Stats returns a snapshot.
func (l *Listener) Stats() ListenerStats {
	stats := ListenerStats{Channels: slices.Clone(l.channels)}
	l.health.report(&stats)
	stats.Notifications, stats.Skipped = l.receiver.counts()
	if f, ok := l.feed.(*logFeed); ok {
		stats.Log = f.report()
	}
	return stats
}

// validate returns the configuration of the listen connection.
func (l *Listener) validate() (*pgx.ConnConfig, error) {
	if err := ValidateChannels(l.channels); err != nil {
		return nil, err
	}
	if l.cfg.CanaryInterval < 0 {
		return nil, fmt.Errorf("canary interval %s: want a positive duration", l.cfg.CanaryInterval)
	}
	config, err := pgx.ParseConfig(l.cfg.URL)
	if err != nil {
		return nil, parseError(err)
	}
	prepare(config, "attune listener")
	return config, nil
}

// session connects, listens and delivers until ctx is done or the connection is lost
// or found deaf; the error says why.
func (l *Listener) session(ctx context.Context, config *pgx.ConnConfig) error {
	own := slices.AppendSeq([]string{l.canaries.channel}, maps.Keys(l.controls))
	s, err := listen(ctx, config, unique(slices.Concat(l.channels, l.feed.channels(), own)))
	if err != nil {
		return err
	}
	defer s.close()
	defer l.backlog.clear()
	l.health.listening(s.pid())
	l.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "listening",
		slog.Int("channels", len(l.channels)), slog.Uint64("backend_pid", uint64(s.pid())))

	// LISTEN is active: what was committed before is in the log, what comes after is
	// announced here.
	for _, c := range l.cfg.Controls {
		if err := c.Opened(ctx); err != nil {
			return err
		}
	}
	if err := l.feed.opened(ctx, s.conn); err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	var prover sync.WaitGroup
	prover.Go(func() {
		if err := l.canaries.prove(ctx, s); err != nil {
			end(err)
		}
	})
	defer prover.Wait()
	defer end(nil)
	return l.receive(ctx, s)
}

// receive hands over what arrives, and has the feed tended, until ctx is done or the
// connection is lost; the error says why.
func (l *Listener) receive(ctx context.Context, s *session) error {
	heard := time.Now() // a notification that counts
	for {
		// One deadline serves all notifications until then: making one for each would
		// cost more than reading it.
		due := l.feed.due()
		until := heard.Add(l.cfg.HeartbeatInterval)
		if !due.IsZero() && due.Before(until) {
			until = due
		}
		err := s.receiveUntil(ctx, until, func(ns []notification, unread bool, at time.Time) (more bool, err error) {
			l.backlog.read(len(ns), unread)
			defer l.receiver.publish()
			for _, n := range ns {
				counts, err := l.deliver(ctx, s, n, at)
				if counts {
					heard = at
				}
				if err != nil {
					return false, err
				}
			}
			return due.Equal(l.feed.due()), nil
		})
		now := time.Now()
		if due := l.feed.due(); err == nil && !due.IsZero() && !due.After(now) {
			err = l.feed.tend(ctx)
		}
		if err != nil {
			return err
		}
		if now.Sub(heard) >= l.cfg.HeartbeatInterval {
			l.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "listener heartbeat", slog.Duration("idle", l.cfg.HeartbeatInterval))
			heard = now
		}
	}
}

// deliver takes what the connection brought; counts is false for a canary.
func (l *Listener) deliver(ctx context.Context, s *session, n notification, at time.Time) (counts bool, err error) {
	switch c := l.controls[n.channel]; {
	case c != nil:
		l.receiver.publish() // what came before it
		c.Receive(ctx, n.channel, string(n.payload), at)
		return true, nil
	case n.channel == l.canaries.channel:
		l.receiver.publish()
		if trip, ok := s.canary.received(string(n.payload), at); ok {
			if err := l.feed.proved(ctx); err != nil {
				return false, err
			}
			l.backoff.reset()
			l.health.proved(ctx, trip, at)
		}
		return false, nil
	}
	return true, l.feed.receive(ctx, n, at)
}

// startError says what to do where the source never became live.
func (l *Listener) startError(config *pgx.ConnConfig, err error) error {
	if errors.Is(err, errDeaf) {
		return fmt.Errorf("listen on %s: LISTEN was accepted, but no notification arrives (%w): a transaction pooler such as PgBouncer is in the way, "+
			"or DATABASE_URL leads to another database: set ATTUNE_LISTEN_URL to a direct connection to the database", target(config), err)
	}
	return fmt.Errorf("start the listener: %w", err)
}

// unique returns names without repetitions, in their order.
func unique(names []string) []string {
	var seen []string
	for _, name := range names {
		if !slices.Contains(seen, name) {
			seen = append(seen, name)
		}
	}
	return seen
}
