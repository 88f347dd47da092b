package pg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"attune/pg/live"
	"attune/wire"
)

// LogSink is where the notifications of a log go; a broadcast.Hub is one.
type LogSink interface {
	Sink
	// PublishLogged hands over notifications with the log's offsets, in order; those
	// that it has already it must ignore.
	PublishLogged(ns ...wire.Notification)
	// PublishUnlogged hands over notifications that no log holds, as Publish does.
	PublishUnlogged(ns ...wire.Notification)
	// Restart says that another sequence begins, whose latest offset is this.
	Restart(epoch string, offset uint64, reason wire.GapReason)
}

// feed is what a source makes of what the listen connection brings. Its methods are
// called from one goroutine.
type feed interface {
	// channels are those that the feed needs besides the configured ones.
	channels() []string
	// opened is called when LISTEN is active on a new connection, before anything
	// that the connection brings. Until the next one, the feed may use it in its methods.
	opened(ctx context.Context, conn *pgx.Conn) error
	// receive takes a notification; proved is called when a canary has come back.
	receive(ctx context.Context, n notification, at time.Time) error
	proved(ctx context.Context) error
	// due is when tend wants to be called, whatever arrives; the zero time: not at all.
	due() time.Time
	tend(ctx context.Context) error
}

// plainFeed is the source listen: a notification is the NOTIFY payload.
type plainFeed struct{ receiver *receiver }

func (plainFeed) channels() []string                      { return nil }
func (plainFeed) opened(context.Context, *pgx.Conn) error { return nil } // health tells the gap
func (plainFeed) proved(context.Context) error            { return nil }
func (plainFeed) due() time.Time                          { return time.Time{} }
func (plainFeed) tend(context.Context) error              { return nil }

func (f plainFeed) receive(ctx context.Context, n notification, at time.Time) error {
	f.receiver.receive(ctx, n, at)
	return nil
}

// logFeed is the source log: a notification is a row, announced by NOTIFY.
//
// An announcement that carries the row is published as it comes; one that only names
// it has the log read. Whatever happened while nobody listened is read from the log
// after LISTEN: a row committed between the two is seen twice, and published once. A
// number that is missing is looked up, and with every canary the log's head is compared
// with what was published: a row whose announcement went astray is late, not lost.
//
// Where rows come fast, it asks writers to announce no more, which costs them most, and
// reads the log on an interval instead, until there are few again: see pace.
type logFeed struct {
	log      *Log
	sink     LogSink
	receiver *receiver // of plain notifications
	logger   *slog.Logger
	conn     *pgx.Conn // the listen connection
	pace     pace
	backlog  *backlog
	heard    uint64 // rows announced until the last canary

	mu    sync.Mutex
	state LogState // as the sink knows it; its Head is the latest published
	stats LogStats
}

// LogStats is how the log is followed.
type LogStats struct {
	// Head is the latest seq, Pruned the latest that may be gone.
	Head   uint64 `json:"head"`
	Pruned uint64 `json:"pruned"`
	// Lag is how many rows were not published yet when the last canary came back.
	Lag uint64 `json:"lag"`
	// Losses is how often a writer's notification could not be logged.
	Losses uint64 `json:"losses"`
	// Announced and Read count rows by how they came: announced, or read from the
	// log because of their size or an outage.
	Announced uint64 `json:"announced"`
	Read      uint64 `json:"read"`
	// Polling: rows come so fast that writers need not announce them; the log is read
	// every few milliseconds.
	Polling bool `json:"polling"`
}

func (f *logFeed) channels() []string { return []string{live.Channel} }

func (f *logFeed) opened(ctx context.Context, conn *pgx.Conn) error {
	f.conn = conn
	if err := f.request(ctx); err != nil {
		return err
	}
	return f.follow(ctx)
}

// proved looks for rows that were not announced. Some may be on their way; where not one
// was announced since the last canary, the request was lost, and is made anew.
func (f *logFeed) proved(ctx context.Context) error {
	if err := f.follow(ctx); err != nil {
		return err
	}
	stats, heard := f.report(), f.heard
	f.heard = stats.Announced
	if stats.Lag == 0 || stats.Announced > heard || f.pace.polling {
		return nil
	}
	return f.release(ctx)
}

func (f *logFeed) receive(ctx context.Context, n notification, at time.Time) error {
	if n.channel != live.Channel {
		f.receiver.receive(ctx, n, at)
		return nil
	}
	f.receiver.publish() // what came before it
	a, err := live.ParseAnnouncement(string(n.payload))
	seq := uint64(a.Seq) //nolint:gosec // not negative
	switch {
	case a.Lost:
		return f.lost(ctx)
	case a.Seq == 0: // no announcement of ours at all: the log knows
		return f.follow(ctx)
	case f.pace.polling: // somebody else has asked for it
		return nil
	case seq <= f.known().Head: // read before it arrived here
		return nil
	case err != nil || a.Notification == nil || seq > f.known().Head+1:
		// Of the numbers in between, most belong to nobody: a transaction took them and
		// was rolled back. The log knows.
		return f.readOn(ctx)
	}
	a.Notification.Timestamp = at
	a.Notification.Cursor.Offset = seq
	f.publish(*a.Notification)
	f.count(func(s *LogStats) { s.Announced++ })
	if f.pace.fast(at) {
		return f.release(ctx)
	}
	return nil
}

func (f *logFeed) due() time.Time { return f.pace.next }

// tend reads what was committed since it was called last.
func (f *logFeed) tend(ctx context.Context) error {
	if f.pace.slow(time.Now()) {
		if err := f.request(ctx); err != nil {
			return err
		}
	}
	// What was not announced before the request is there now.
	if err := f.readOn(ctx); err != nil {
		return err
	}
	f.pace.rest(time.Now())
	return nil
}

// request asks for announcements. The log must be read afterwards, and again and again
// for as long as the request could not be made.
func (f *logFeed) request(ctx context.Context) error {
	ok, err := live.RequestAnnouncements(ctx, f.conn)
	if err != nil {
		return fmt.Errorf("request announcements: %w", err)
	}
	f.setPolling(!ok)
	return nil
}

// release has the log read instead.
func (f *logFeed) release(ctx context.Context) error {
	if err := live.ReleaseAnnouncements(ctx, f.conn); err != nil {
		return fmt.Errorf("release announcements: %w", err)
	}
	f.setPolling(true)
	return nil
}

func (f *logFeed) setPolling(polling bool) {
	f.pace = pace{polling: polling, since: time.Now()}
	f.pace.rest(f.pace.since)
	f.count(func(s *LogStats) { s.Polling = polling })
}

// follow compares where the log stands with what was published, and publishes the
// difference. Where the log is another one, has lost something, or was pruned of what was
// not published, the sink is told.
func (f *logFeed) follow(ctx context.Context) error {
	now, err := f.log.State(ctx)
	if errors.Is(err, ErrNoLog) {
		return fmt.Errorf("%w any more: `attune db install` makes it, and attune serve goes on by itself; to go on without, restart it", ErrNoLog)
	}
	if err != nil {
		return err
	}
	known := f.known()
	switch {
	case known.ID == "": // the first time
		f.restart(now, now.Head, wire.GapListenerReconnected)
	case now.ID != known.ID:
		f.logger.LogAttrs(ctx, slog.LevelWarn, "the notification log is another one: made anew, restored, or another database's")
		f.restart(now, now.Head, wire.GapCursorUnknown)
	case now.Timeline != known.Timeline:
		f.logger.LogAttrs(ctx, slog.LevelWarn, "the database was failed over: notifications may be missing")
		f.restart(now, now.Head, wire.GapListenerReconnected)
	case now.Head < known.Head: // after a crash, where commits are not synchronous; others get their numbers
		f.logger.LogAttrs(ctx, slog.LevelWarn, "the database has lost commits: notifications may be missing")
		f.restart(f.endCursors(ctx, now), now.Head, wire.GapListenerReconnected)
	case now.Pruned > known.Head: // what is left after it, which may be nothing, is read
		f.logger.LogAttrs(ctx, slog.LevelWarn, "the log was pruned beyond what was published")
		f.restart(now, now.Pruned, wire.GapCursorExpired)
	case now.Losses != known.Losses:
		f.logger.LogAttrs(ctx, slog.LevelWarn, "writers' notifications were lost; the database's log has the warnings",
			slog.Uint64("losses", now.Losses-known.Losses))
		f.restart(now, known.Head, wire.GapSourceOverflow)
	}
	f.count(func(s *LogStats) {
		s.Head, s.Pruned, s.Losses = now.Head, now.Pruned, now.Losses
		s.Lag = now.Head - min(now.Head, f.state.Head)
	})
	if now.Head <= f.known().Head {
		return nil // spares a query, which would first bring whatever else waits at the listen connection
	}
	return f.readOn(ctx)
}

// lost tells that at this place something is missing. Where the count says so, too, and
// was not seen to before, follow tells; but the count may be ahead of the commit, and then
// told to who was there meanwhile, or could not be kept.
func (f *logFeed) lost(ctx context.Context) error {
	before := f.known().Losses
	if err := f.follow(ctx); err != nil {
		return err
	}
	if known := f.known(); known.Losses == before {
		f.restart(f.endCursors(ctx, known), known.Head, wire.GapSourceOverflow)
	}
	return nil
}

// endCursors has no cursor from before now count any more, and returns the state with
// that. Where it can not, who is connected is told all the same.
func (f *logFeed) endCursors(ctx context.Context, now LogState) LogState {
	ended, err := f.log.CountLoss(ctx)
	if err != nil {
		f.logger.LogAttrs(ctx, slog.LevelError, "cursors from before a loss still count: the role needs USAGE on attune_live.losses", slog.Any("err", err))
		return now
	}
	return ended
}

// readOn publishes what is in the log and was not published. That there is nothing does not
// mean that there was nothing: follow knows.
func (f *logFeed) readOn(ctx context.Context) error {
	for more := true; more; {
		c, err := f.log.next(ctx, f.conn, f.known().Head)
		if _, gone := errors.AsType[*wire.GapError](err); gone {
			return f.follow(ctx)
		}
		if err != nil {
			return err
		}
		f.backlog.read(len(c.notifications), c.full)
		f.publish(c.notifications...)
		f.refuse(ctx, c.refused)
		f.advance(c.through)
		if f.pace.polling {
			f.pace.rows += len(c.notifications)
		}
		f.count(func(s *LogStats) { s.Read += uint64(len(c.notifications)) })
		more = c.full
	}
	return nil
}

// refuse counts rows that are no notifications, and tells the sink that something is
// missing in their place. Whoever resumes from before them is told by Read.
func (f *logFeed) refuse(ctx context.Context, rows []refusedRow) {
	if len(rows) == 0 {
		return
	}
	now := time.Now()
	for _, row := range rows {
		f.receiver.skip(ctx, row.channel, SkipLogRow, now, slog.Uint64("seq", row.seq), slog.Any("err", row.err))
	}
	f.restart(f.known(), rows[len(rows)-1].seq, wire.GapSourceOverflow)
}

func (f *logFeed) publish(ns ...wire.Notification) {
	if len(ns) == 0 {
		return
	}
	f.sink.PublishLogged(ns...)
	for _, n := range ns {
		f.receiver.published(n.NotificationType)
	}
	f.advance(ns[len(ns)-1].Cursor.Offset)
}

// restart tells the sink that the sequence begins anew after offset.
func (f *logFeed) restart(state LogState, offset uint64, reason wire.GapReason) {
	state.Head = offset
	f.mu.Lock()
	f.state = state
	f.mu.Unlock()
	f.sink.Restart(state.Epoch(), offset, reason)
}

func (f *logFeed) advance(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.Head = max(f.state.Head, seq)
}

func (f *logFeed) known() LogState {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *logFeed) count(add func(*LogStats)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	add(&f.stats)
}

// report returns how the log is followed.
func (f *logFeed) report() *LogStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	stats := f.stats
	stats.Head = max(stats.Head, f.state.Head)
	return &stats
}
