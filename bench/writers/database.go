package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"attune/pg/live"
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
		{"watched", "watched", live.Channel},
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
	return live.Watch(ctx, conn, "bench_writers.watched", live.WatchOptions{Columns: []string{"status", "total"}, UserID: "customer"})
}

// listener counts what arrives, as a server would.
type listener struct {
	done   sync.WaitGroup
	counts map[string]int // by channel
	err    error
}

// theEnd is sent after a round, to be received after all of it.
const theEnd = "the end"

func startListener(ctx context.Context, url string) (*listener, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, `LISTEN notify_changed; LISTEN `+live.Channel); err != nil {
		return nil, err
	}
	l := &listener{counts: map[string]int{}}
	l.done.Go(func() {
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				l.err = err
				return
			}
			if n.Payload == theEnd {
				return
			}
			l.counts[n.Channel]++
		}
	})
	return l, nil
}

// end returns how many notifications arrived on each channel.
func (l *listener) end(ctx context.Context, conn *pgx.Conn) (map[string]int, error) {
	if _, err := conn.Exec(ctx, `SELECT pg_notify($1, $2)`, live.Channel, theEnd); err != nil {
		return nil, err
	}
	l.done.Wait()
	return l.counts, l.err
}
