package pg_test

import (
	"context"
	"math"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"attune/broadcast"
	"attune/pg"
	"attune/pg/live"
	"attune/pg/pgtest"
	"attune/wire"
)

// hubOn runs a hub that follows the log until t ends. Its window holds ten notifications:
// who comes from before them reads the log.
func hubOn(t *testing.T, url string, pool *pgxpool.Pool) *broadcast.Hub {
	t.Helper()
	log, err := pg.OpenLog(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	hub := broadcast.New(broadcast.Options{QueueSize: 1000, WindowSize: 10, Backlog: log})
	followLog(t, url, pool, hub)
	return hub
}

// reader is a client that resumes, and what it has received: "1" is a notification of the
// entity with that id, "gap cursor_expired" a gap.
type reader struct {
	*broadcast.Subscriber
	got []string
}

// resume connects a reader to hub that comes with cursor.
func resume(t *testing.T, hub *broadcast.Hub, cursor wire.Cursor) *reader {
	t.Helper()
	s, _ := hub.Connect()
	t.Cleanup(s.Close)
	all, err := wire.ParseFilter("all")
	if err != nil {
		t.Fatal(err)
	}
	text := cursor.String()
	if err := s.Subscribe(t.Context(), []wire.Filter{all}, &text, func(broadcast.Start) []wire.ServerMessage { return nil }); err != nil {
		t.Fatal(err)
	}
	return &reader{Subscriber: s}
}

// next receives what there is to be had at once, and waits if that is nothing.
func (r *reader) next(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	frames, err := r.Next(ctx, nil)
	if err != nil {
		t.Fatalf("after %d messages: %v", len(r.got), err)
	}
	for _, frame := range frames {
		if n, ok := frame.Message.(wire.Notification); ok {
			r.got = append(r.got, n.EntityID.String())
		}
		if gap, ok := frame.Message.(wire.Gap); ok {
			r.got = append(r.got, "gap "+string(gap.Reason))
		}
	}
}

// until receives up to that message.
func (r *reader) until(t *testing.T, message string) []string {
	t.Helper()
	for !slices.Contains(r.got, message) {
		r.next(t)
	}
	return r.got
}

// ids returns the ids from first to last.
func ids(first, last int) []string {
	var all []string
	for i := first; i <= last; i++ {
		all = append(all, strconv.Itoa(i))
	}
	return all
}

// TestLog_Read_Pruned prunes rows before a client that resumes reads them, and while it
// does: it must never pass for caught up.
func TestLog_Read_Pruned(t *testing.T) {
	t.Parallel()
	url, pool, _ := newLog(t)
	hub := hubOn(t, url, pool)
	exec(t, pool, `SELECT attune_live.notify('c', 'orders', i::text, '{}') FROM generate_series(1, 600) i`)
	eventually(t, "600 rows", func() bool { return hub.Cursor().Offset == 600 })
	at := func(offset uint64) wire.Cursor { return wire.Cursor{Epoch: hub.Cursor().Epoch, Offset: offset} }

	within := resume(t, hub, at(0))
	within.next(t)
	read := len(within.got)
	if read == 0 || read >= 500 {
		t.Fatalf("read %d rows at once", read)
	}
	if _, err := live.Prune(t.Context(), pool, live.Retention{MaxRows: 100}); err != nil {
		t.Fatal(err)
	}
	before, edge := resume(t, hub, at(499)), resume(t, hub, at(500))
	expired := "gap " + string(wire.GapCursorExpired)
	before.next(t)
	within.next(t)
	exec(t, pool, `SELECT attune_live.notify('c', 'orders', '601', '{}')`)
	for name, test := range map[string]struct {
		reader *reader
		want   []string
	}{
		"before what is left":   {before, []string{expired, "601"}},
		"within what is pruned": {within, append(ids(1, read), expired, "601")},
		"at the edge":           {edge, ids(501, 601)},
	} {
		if diff := cmp.Diff(test.want, test.reader.until(t, "601")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}

	exec(t, pool, `UPDATE attune_live.notification_log SET created = now() - interval '1 day'`)
	if _, err := live.Prune(t.Context(), pool, live.Retention{MaxAge: time.Hour}); err != nil {
		t.Fatal(err)
	}
	none := resume(t, hub, at(580))
	none.next(t)
	if diff := cmp.Diff([]string{expired}, none.got); diff != "" {
		t.Errorf("nothing left (-want +got):\n%s", diff)
	}
}

// TestLog_Read_NoNotification has clients resume from before a row that is no notification,
// which they are told of once, whether they read it or are there when it comes.
func TestLog_Read_NoNotification(t *testing.T) {
	t.Parallel()
	url, pool, _ := newLog(t)
	hub := hubOn(t, url, pool)
	write := func(first, last int) {
		t.Helper()
		exec(t, pool, `SELECT attune_live.notify('c', 'orders', i::text, '{}') FROM generate_series($1::int, $2) i`, first, last)
		eventually(t, "what was written", func() bool { return hub.Cursor().Offset == uint64(last) })
	}
	gap := "gap " + string(wire.GapSourceOverflow)
	write(1, 2)
	at := func(offset uint64) wire.Cursor { return wire.Cursor{Epoch: hub.Cursor().Epoch, Offset: offset} }
	there := resume(t, hub, at(2))
	exec(t, pool, tooDeep)
	write(4, 4)
	near := resume(t, hub, at(1)) // the window would hold what comes after
	near.until(t, gap)
	write(5, 600)
	before, behind, last := resume(t, hub, at(0)), resume(t, hub, at(2)), resume(t, hub, at(3))
	before.until(t, gap)
	behind.until(t, gap)
	write(601, 601)

	for name, test := range map[string]struct {
		reader *reader
		want   []string
	}{
		"there":             {there, append([]string{gap}, ids(4, 601)...)},
		"soon after":        {near, append([]string{"2", gap}, ids(5, 601)...)},
		"from before":       {before, []string{"1", "2", gap, "601"}},
		"from right before": {behind, []string{gap, "601"}},
		"from the gap":      {last, ids(4, 601)},
	} {
		if diff := cmp.Diff(test.want, test.reader.until(t, "601")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestLog_Restored makes a log anew with what a dump of the one before would bring back.
func TestLog_Restored(t *testing.T) {
	t.Parallel()
	_, pool, _ := newLog(t)
	log, err := pg.OpenLog(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `CREATE TABLE dump AS SELECT log_id FROM attune_live.meta`)
	before, err := log.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if left, err := live.Uninstall(t.Context(), pool); err != nil || len(left) > 0 {
		t.Fatalf("uninstall: %v, left: %v", err, left)
	}
	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `UPDATE attune_live.meta SET log_id = dump.log_id FROM dump`)
	restored, err := log.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if restored.Epoch() == before.Epoch() {
		t.Errorf("the epoch is %q as before", restored.Epoch())
	}
	if c, ok := wire.ParseCursor(wire.Cursor{Epoch: restored.Epoch(), Offset: math.MaxInt64}.String()); !ok || c.Epoch != restored.Epoch() {
		t.Errorf("%q is no epoch", restored.Epoch())
	}
}

// TestLog_Copied resumes on a copy of a database from cursors of the original: nothing in the
// copy says that it is one, and its rows have other meanings from there on.
func TestLog_Copied(t *testing.T) {
	t.Parallel()
	url, pool, _ := newLog(t)
	exec(t, pool, `SELECT attune_live.notify('c', 'orders', i::text, '{}') FROM generate_series(1, 3) i`)
	pool.Close() // who is connected is in the way of a copy
	copied := beside(t, url, "copy", "TEMPLATE "+pool.Config().ConnConfig.Database)

	original := hubOn(t, url, connect(t, url))
	there := connect(t, copied)
	hub := hubOn(t, copied, there)
	exec(t, there, `SELECT attune_live.notify('c', 'orders', i::text, '{}') FROM generate_series(14, 15) i`)
	eventually(t, "the copy's rows", func() bool { return hub.Cursor().Offset == 5 })
	for offset := range uint64(6) {
		r := resume(t, hub, wire.Cursor{Epoch: original.Cursor().Epoch, Offset: offset})
		r.next(t)
		if diff := cmp.Diff([]string{"gap " + string(wire.GapCursorUnknown)}, r.got); diff != "" {
			t.Errorf("from %d (-want +got):\n%s", offset, diff)
		}
	}
	if diff := cmp.Diff([]string{"15"}, resume(t, hub, wire.Cursor{Epoch: hub.Cursor().Epoch, Offset: 4}).until(t, "15")); diff != "" {
		t.Errorf("from a cursor of its own (-want +got):\n%s", diff)
	}
}

// TestLog_Read_Crowd has more readers of the log than there are connections: some are
// left for the canary.
func TestLog_Read_Crowd(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	pool := connect(t, url, func(cfg *pgxpool.Config) { cfg.MaxConns = 4 })
	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	log, err := pg.OpenLog(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	holder := pgtest.Connect(t, url)
	if _, err := holder.Exec(t.Context(), `BEGIN; LOCK TABLE attune_live.notification_log`, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	var readers errgroup.Group
	for range 20 {
		readers.Go(func() error {
			_, _, err := log.Read(t.Context(), 0, 1)
			return err
		})
	}
	eventually(t, "readers wait in the database", func() bool {
		var waiting int
		err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
		return waiting == 2
	})
	if n := pool.Stat().AcquiredConns(); n != 2 {
		t.Errorf("%d of 4 connections read, want 2", n)
	}
	if _, err := holder.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if err := readers.Wait(); err != nil {
		t.Error(err)
	}
}

// TestLog_Read_Large reads large rows: what is too much at once is not even sent.
func TestLog_Read_Large(t *testing.T) {
	t.Parallel()
	const rows, size = 40, 256 << 10
	var received atomic.Int64
	pool := connect(t, pgtest.Database(t), func(cfg *pgxpool.Config) {
		dial := cfg.ConnConfig.DialFunc
		cfg.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return counted{conn, &received}, err
		}
	})
	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	_, err := pool.Exec(t.Context(), `SELECT attune_live.notify('c', 'orders', i::text,
		to_jsonb((SELECT string_agg(md5(i::text || j::text), '') FROM generate_series(1, $2 / 32) j))) FROM generate_series(1, $1) i`, rows, size)
	if err != nil {
		t.Fatal(err)
	}
	log, err := pg.OpenLog(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	before, reads, seen := received.Load(), int64(0), uint64(0)
	for seen < rows {
		ns, through, err := log.Read(t.Context(), seen, rows)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range ns {
			if seen++; n.Cursor.Offset != seen {
				t.Fatalf("row %d came where %d should", n.Cursor.Offset, seen)
			}
		}
		if through != seen {
			t.Fatalf("read through %d, got up to %d", through, seen)
		}
		reads++
	}
	if sent := received.Load() - before; reads < 2 || sent > 2*rows*size {
		t.Errorf("%d bytes were sent in %d reads, for %d", sent, reads, rows*size)
	}
}

// counted counts what is read from a connection.
type counted struct {
	net.Conn
	bytes *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}
