package runner

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// heardSize is how many notifications wait for the queue, which takes them at once.
const heardSize = 1000

// driver is River's, but for where its notifications come from.
type driver struct {
	*riverpgxv5.Driver

	listener *queueListener
}

var _ riverdriver.Driver[pgx.Tx] = driver{}

// GetListener implements riverdriver.Driver.
func (d driver) GetListener(*riverdriver.GetListenenerParams) riverdriver.Listener {
	return d.listener
}

// queueListener is where the queue hears of its notifications: those that the Runner is
// handed. A connection of its own would cost every NOTIFY in the database, whoever it is
// for, as much as the listener's: PostgreSQL wakes all that listen. And whether it is
// deaf would be for nobody to know.
type queueListener struct {
	heard  chan *riverdriver.Notification
	logger *slog.Logger
}

// Channels are the PostgreSQL channels on which the queue's notifications come. What does
// is for Receive; without it, jobs start up to a quarter of a second late, and do not
// hear when another process cancels them.
func (*Runner) Channels() []string {
	var names []string
	for _, topic := range topics() {
		names = append(names, schema+"."+topic)
	}
	return names
}

// topics are what River calls its channels.
func topics() []string { return []string{"river_insert", "river_control", "river_leadership"} }

// Opened does nothing about what was said while nobody listened: jobs are polled besides,
// and an action whose cancellation was not heard ends as cancelled when it is done.
func (*Runner) Opened(context.Context) error { return nil }

// Receive takes what came on one of Channels. It is quick.
func (r *Runner) Receive(ctx context.Context, channel, payload string, _ time.Time) {
	topic := strings.TrimPrefix(channel, schema+".")
	select {
	case r.listener.heard <- &riverdriver.Notification{Topic: topic, Payload: payload}:
	default: // it does not run, mostly
		r.listener.logger.WarnContext(ctx, "the job queue does not take its notifications", slog.String("channel", channel))
	}
}

// WaitForNotification implements riverdriver.Listener, as do the others.
func (l *queueListener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	select {
	case n := <-l.heard:
		return n, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Listen is done already.
func (*queueListener) Listen(_ context.Context, topic string) error {
	if !slices.Contains(topics(), topic) {
		return fmt.Errorf("nobody listens to %s", topic)
	}
	return nil
}

// Unlisten leaves it so: what is not wanted is not passed on.
func (*queueListener) Unlisten(context.Context, string) error { return nil }

// Connect is done by whoever calls Receive, and Ping is the canaries' part.
func (*queueListener) Connect(context.Context) error { return nil }

// Ping does nothing.
func (*queueListener) Ping(context.Context) error { return nil }

// Close does nothing.
func (*queueListener) Close(context.Context) error { return nil }

// Schema is where the queue's tables are.
func (*queueListener) Schema() string { return schema }

// SetAfterConnectExec is for River's own tests.
func (*queueListener) SetAfterConnectExec(string) {}
