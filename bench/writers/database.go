package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/pg"
	"attune/pg/live"
	"attune/wire"
)

// variant is a table that is written in a run.
type variant struct {
	name, title string
	channel     string // of its notifications; "" if there are none
}

func variants() []variant {
	return []variant{
		{"without", "no trigger", ""},
		{"notify", "a trigger that calls `pg_notify`", "notify_changed"},
		{"watched", "watched", "watched_changed"},
		{"staged", "watched, with a deferred foreign key somewhere", "staged_changed"},
	}
}

// notifySQL is the trigger that people write by hand: a row in JSON, with what a
// notification needs.
const notifySQL = `
	CREATE FUNCTION bench_writers.announce() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_notify('notify_changed', json_build_object(
			'entity_type', 'notify', 'entity_id', NEW.id, 'user_id', NEW.customer,
			'op', 'changed', 'id', NEW.id, 'status', NEW.status, 'total', NEW.total)::text);
		RETURN NULL;
	END $$;
	CREATE TRIGGER announce AFTER UPDATE ON bench_writers.notify FOR EACH ROW
	WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.total IS DISTINCT FROM NEW.total)
	EXECUTE FUNCTION bench_writers.announce()`

// setUp makes the tables, one a variant and all alike.
func setUp(ctx context.Context, conn *pgx.Conn, rows int) error {
	statements := []string{`DROP SCHEMA IF EXISTS bench_writers CASCADE`, `CREATE SCHEMA bench_writers`}
	for _, v := range variants() {
		statements = append(statements,
			`CREATE TABLE bench_writers.`+v.name+` (id bigint PRIMARY KEY, status text NOT NULL, total int NOT NULL,
				customer bigint, note text) WITH (fillfactor = 80)`,
			fmt.Sprintf(`INSERT INTO bench_writers.%s SELECT i, 'new', 0, i %% 100, 'a note of ' || i FROM generate_series(1, %d) i`, v.name, rows),
			`VACUUM ANALYZE bench_writers.`+v.name)
	}
	for _, sql := range append(statements, notifySQL, `CHECKPOINT`) {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	if err := live.Install(ctx, conn); err != nil {
		return err
	}
	o := live.WatchOptions{Columns: []string{"status", "total"}, UserID: "customer"}
	if err := live.Watch(ctx, conn, "bench_writers.watched", o); err != nil {
		return err
	}
	const deferred = `CREATE TABLE bench_writers.deferred (id bigint PRIMARY KEY REFERENCES bench_writers.deferred DEFERRABLE)`
	if _, err := conn.Exec(ctx, deferred); err != nil {
		return err
	}
	return live.Watch(ctx, conn, "bench_writers.staged", o)
}

// listener is attune's own, which serves both ways of being told, and counts what it
// hears as a hub would hear it.
type listener struct {
	pool   *pgxpool.Pool
	listen *pg.Listener
	ended  chan error
	cancel context.CancelFunc
}

// deaf takes what a hub would, and gives it to nobody.
type deaf struct{}

func (deaf) Publish(...wire.Notification)           {}
func (deaf) PublishLogged(...wire.Notification)     {}
func (deaf) PublishUnlogged(...wire.Notification)   {}
func (deaf) Gap(wire.GapReason)                     {}
func (deaf) Restart(string, uint64, wire.GapReason) {}
func (deaf) SetMode(wire.Mode)                      {}

func startListener(ctx context.Context, url string) (*listener, error) {
	pool, err := pg.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	log, err := pg.OpenLog(ctx, pool)
	if err != nil {
		pool.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &listener{pool: pool, ended: make(chan error, 1), cancel: cancel}
	l.listen = pg.NewLogListener(pg.ListenerConfig{URL: url, Pool: pool, Channels: []string{"notify_changed"}}, log, deaf{})
	go func() { l.ended <- l.listen.Run(ctx) }()
	select {
	case <-l.listen.Live():
		return l, nil
	case err := <-l.ended:
		l.ended <- nil
		return nil, errors.Join(err, l.end())
	}
}

// heard waits until there is no more to come than want, and returns how many
// notifications there were on a channel.
func (l *listener) heard(ctx context.Context, channel string, want int) int {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		n := int(l.listen.Stats().Notifications[channel]) //nolint:gosec // far from the limits
		if n >= want || ctx.Err() != nil {
			return n
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (l *listener) end() error {
	l.cancel()
	err := <-l.ended
	l.pool.Close()
	return err
}
