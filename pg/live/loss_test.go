package live_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"attune/pg/live"
	"attune/pg/pgtest"
)

// warned runs statements in one transaction, on a connection of its own, and returns
// the warnings that came.
func warned(t *testing.T, pool *pgxpool.Pool, statements ...string) []string {
	t.Helper()
	warnings, err := tryWarned(t.Context(), pool, statements...)
	if err != nil {
		t.Fatalf("the writer failed: %v", err)
	}
	return warnings
}

func tryWarned(ctx context.Context, pool *pgxpool.Pool, statements ...string) (warnings []string, err error) {
	cfg := pool.Config().ConnConfig.Copy()
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.Severity == "WARNING" {
			warnings = append(warnings, n.Message)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
	return warnings, err
}

// TestLoss breaks what the triggers need. The write must go through, with a warning,
// and whoever listens and whoever looks later must learn of the loss.
func TestLoss(t *testing.T) {
	const write = `INSERT INTO orders VALUES ('1', 1)`
	for name, test := range map[string]struct {
		harm, write string
		notify      bool // by notify() instead of a watched table
		uncounted   bool // only announced
		silent      bool // neither announced
	}{
		"LogDropped":          {harm: `DROP TABLE attune_live.notification_log`, write: write},
		"LogDropped_Notify":   {harm: `DROP TABLE attune_live.notification_log`, notify: true},
		"LogFull":             {harm: `ALTER TABLE attune_live.notification_log ADD CHECK (false)`, write: write},
		"LogFull_Notify":      {harm: `ALTER TABLE attune_live.notification_log ADD CHECK (false)`, notify: true},
		"OutboxDropped":       {harm: `DROP TABLE attune_live.outbox`, notify: true},
		"SequenceBehind":      {harm: `INSERT INTO attune_live.notification_log VALUES (1, 'c', 't', '1', NULL, '{}', now())`, write: write},
		"SequenceDropped":     {harm: `DROP SEQUENCE attune_live.seq`, write: write},
		"PublishDropped":      {harm: `DROP FUNCTION attune_live.publish`, notify: true},
		"LoseDropped":         {harm: `DROP TABLE attune_live.notification_log; DROP FUNCTION attune_live.lose`, write: write, silent: true},
		"LoseDropped_Notify":  {harm: `DROP TABLE attune_live.notification_log; DROP FUNCTION attune_live.lose`, notify: true, silent: true},
		"LoseDropped_Rekeyed": {harm: `ALTER TABLE orders DISABLE TRIGGER ALL; INSERT INTO orders VALUES ('1', 1); ALTER TABLE orders ENABLE TRIGGER ALL; DROP TABLE attune_live.notification_log; DROP FUNCTION attune_live.lose`, write: `UPDATE orders SET id = '2'`, silent: true},
		"LossesDropped":       {harm: `DROP TABLE attune_live.notification_log; DROP SEQUENCE attune_live.losses`, write: write, uncounted: true},
		"ColumnDropped":       {harm: `ALTER TABLE orders DROP COLUMN n CASCADE`, write: `INSERT INTO orders VALUES ('1')`},
		"ColumnRenamed":       {harm: `ALTER TABLE orders RENAME COLUMN n TO m`, write: write},
		"KeyNullable":         {harm: `ALTER TABLE orders DROP CONSTRAINT orders_pkey; ALTER TABLE orders ALTER id DROP NOT NULL`, write: `INSERT INTO orders VALUES (NULL, 1)`},
		"KeyOutsideOfGrammar": {write: `INSERT INTO orders VALUES ('a b', 1)`},
		"KeyRenamed":          {harm: `ALTER TABLE orders DISABLE TRIGGER ALL; INSERT INTO orders VALUES ('1', 1); ALTER TABLE orders ENABLE TRIGGER ALL; ALTER TABLE orders RENAME COLUMN id TO no`, write: `UPDATE orders SET no = '2'`},
		"TypeChanged":         {harm: `DROP TRIGGER zz_attune_live_changed ON orders; ALTER TABLE orders ALTER n TYPE text`, write: write},
		"NewKeyOutside":       {harm: `ALTER TABLE orders DISABLE TRIGGER ALL; INSERT INTO orders VALUES ('1', 1); ALTER TABLE orders ENABLE TRIGGER ALL`, write: `UPDATE orders SET id = 'a b'`},
		"KeyTooLong":          {write: `INSERT INTO orders VALUES (repeat('x', 129), 1)`},
		"Truncated":           {write: `TRUNCATE orders`},
		"ReadOnlyAtLast":      {write: write + `; SET TRANSACTION READ ONLY`, uncounted: true},
	} {
		t.Run(name, func(t *testing.T) {
			pool := installed(t)
			exec(t, pool, `CREATE TABLE orders (id text PRIMARY KEY, n int)`)
			watch(t, pool, "orders", live.WatchOptions{})
			l := listen(t, pool)
			if test.harm != "" {
				exec(t, pool, strings.Split(test.harm, "; ")...)
			}
			writes := strings.Split(test.write, "; ")
			if test.notify {
				writes = []string{`SELECT attune_live.notify('c', 't', '1', '{}')`}
			}
			if warnings := warned(t, pool, writes...); len(warnings) != 1 {
				t.Errorf("warnings: %q, want one", warnings)
			}
			exec(t, pool, `NOTIFY attune_live, 'the end'`)
			if got := l.raw(); (got == "lost") == test.silent {
				t.Errorf("announced: %q", got)
			}
			if !test.silent && !test.uncounted {
				if n := losses(t, pool); n != 1 {
					t.Errorf("%d losses are counted, want 1", n)
				}
			}
		})
	}
}

// TestLoss_InOrder finds a loss between what was told before and after, in the same
// transaction.
func TestLoss_InOrder(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE TABLE orders (id text PRIMARY KEY)`)
	watch(t, pool, "orders", live.WatchOptions{})
	l := listen(t, pool)
	warnings := warned(t, pool, `INSERT INTO orders VALUES ('a')`, `INSERT INTO orders VALUES ('b b')`, `INSERT INTO orders VALUES ('c')`)
	if len(warnings) != 1 || !strings.Contains(warnings[0], "b b") {
		t.Errorf("warnings: %q", warnings)
	}
	l.wantTold(`orders_created orders a {"op":"created","id":"a"}`)
	if a := l.next(); !a.Lost {
		t.Errorf("got %+v, want a loss", a)
	}
	l.wantTold(`orders_created orders c {"op":"created","id":"c"}`)
}

// TestLoss_AtCommit: what is lost is counted and announced when the transaction commits,
// not while it may still be rolled back, nor before what it has lost is there to be read.
func TestLoss_AtCommit(t *testing.T) {
	for name, loss := range map[string]string{
		"Truncated": `TRUNCATE orders`,
		"Notify":    `SELECT attune_live.notify('c', 'a type', '1', '{}')`,
	} {
		t.Run(name, func(t *testing.T) {
			pool := installed(t)
			exec(t, pool, `CREATE TABLE orders (id int PRIMARY KEY)`)
			watch(t, pool, "orders", live.WatchOptions{})
			l := listen(t, pool)
			for _, end := range []struct {
				sql  string
				want int64
			}{{`ROLLBACK`, 0}, {`COMMIT`, 1}} {
				conn := pgtest.Connect(t, pool.Config().ConnString())
				for _, sql := range []string{`BEGIN`, loss} {
					if _, err := conn.Exec(t.Context(), sql); err != nil {
						t.Fatal(err)
					}
				}
				if n := losses(t, pool); n != 0 {
					t.Errorf("%d losses are counted before %s", n, end.sql)
				}
				if _, err := conn.Exec(t.Context(), end.sql); err != nil {
					t.Fatal(err)
				}
				if n := losses(t, pool); n != end.want {
					t.Errorf("%d losses are counted after %s, want %d", n, end.sql, end.want)
				}
			}
			if a := l.next(); !a.Lost {
				t.Errorf("announced: %+v, want a loss", a)
			}
			if n := queryOne[int](t, pool, `SELECT count(*)::int FROM attune_live.outbox`); n != 0 {
				t.Errorf("%d rows are left in the outbox", n)
			}
		})
	}
}

// TestLoss_DeferredForeignKey has a foreign key that is checked at commit wait for a row
// whose holder then commits, too: that is no deadlock, whatever the one or the other
// tells of.
func TestLoss_DeferredForeignKey(t *testing.T) {
	for name, tell := range map[string]struct {
		before     []string
		one, other string
	}{
		"Watched": {one: `INSERT INTO child VALUES (1, 1), (2, 2)`, other: `INSERT INTO child VALUES (100, 1)`},
		"Rekeyed": {
			before: []string{`INSERT INTO child VALUES (1, NULL), (2, NULL)`},
			one:    `UPDATE child SET id = id + 10, pid = id`, other: `INSERT INTO child VALUES (100, 1)`,
		},
		"Bulk": {one: `INSERT INTO child SELECT i, 1 + (i = 200)::int FROM generate_series(1, 200) i`, other: `INSERT INTO child VALUES (1000, 1)`},
		"Notify": {
			one:   `SELECT attune_live.notify('c', 't', '1', '{}'); INSERT INTO unwatched VALUES (1, 2)`,
			other: `SELECT attune_live.notify('c', 't', '2', '{}')`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			pool := installed(t)
			exec(t, pool, `CREATE TABLE parents (id int PRIMARY KEY)`, `INSERT INTO parents VALUES (1), (2)`,
				`CREATE TABLE child (id int PRIMARY KEY, pid int REFERENCES parents DEFERRABLE INITIALLY DEFERRED)`,
				`CREATE TABLE unwatched (id int PRIMARY KEY, pid int REFERENCES parents DEFERRABLE INITIALLY DEFERRED)`)
			exec(t, pool, tell.before...)
			watch(t, pool, "child", live.WatchOptions{})
			other := pgtest.Connect(t, pool.Config().ConnString())
			for _, sql := range []string{`BEGIN`, `SELECT FROM parents WHERE id = 2 FOR UPDATE`, tell.other} {
				if _, err := other.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			var writer errgroup.Group
			var warnings []string
			writer.Go(func() (err error) {
				warnings, err = tryWarned(t.Context(), pool, strings.Split(tell.one, "; ")...)
				return err
			})
			waitFor(t, pool, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype IN ('transactionid', 'tuple') AND NOT granted)`)
			if _, err := other.Exec(t.Context(), `COMMIT`); err != nil {
				t.Errorf("the holder of the row failed: %v", err)
			}
			if err := writer.Wait(); err != nil {
				t.Errorf("who waited for the row failed: %v", err)
			}
			if n := losses(t, pool); n != 0 || len(warnings) > 0 {
				t.Errorf("%d losses, warnings %q", n, warnings)
			}
		})
	}
}

// TestLoss_LockHeld has somebody keep the commit lock: writers wait for a while, and go on.
func TestLoss_LockHeld(t *testing.T) {
	for name, set := range map[string]string{
		"Default": `SELECT 1`,
		"Timeout": `SET LOCAL lock_timeout = '100ms'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := installed(t)
			exec(t, pool, `CREATE TABLE orders (id int PRIMARY KEY)`)
			watch(t, pool, "orders", live.WatchOptions{})
			holder, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = holder.Rollback(context.WithoutCancel(t.Context())) }()
			for _, sql := range []string{`SET CONSTRAINTS ALL IMMEDIATE`, `INSERT INTO orders VALUES (1)`} {
				if _, err := holder.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			warnings := warned(t, pool, set, `INSERT INTO orders VALUES (2)`)
			if len(warnings) != 1 || !strings.Contains(warnings[0], "lock timeout") {
				t.Errorf("warnings: %q", warnings)
			}
			if err := holder.Commit(t.Context()); err != nil {
				t.Error(err)
			}
			if n := losses(t, pool); n != 1 {
				t.Errorf("%d losses, want 1", n)
			}
		})
	}
}

// TestLoss_Deadlock has two transactions wait for each other, one of them in the
// trigger: that one gives up the notification instead of the write.
func TestLoss_Deadlock(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE TABLE orders (id int PRIMARY KEY, n int)`, `CREATE TABLE other (id int)`, `INSERT INTO other VALUES (1)`)
	watch(t, pool, "orders", live.WatchOptions{})
	holder, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(context.WithoutCancel(t.Context())) }()
	// The commit lock, from here on: what a deferred trigger of somebody's could do.
	for _, sql := range []string{
		`SET LOCAL deadlock_timeout = '1min'`, `SET CONSTRAINTS ALL IMMEDIATE`, `INSERT INTO orders VALUES (1)`,
	} {
		if _, err := holder.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var warnings []string
	var writer errgroup.Group
	writer.Go(func() (err error) {
		// The holder will wait for this lock.
		warnings, err = tryWarned(t.Context(), pool, `LOCK TABLE other`, `INSERT INTO orders VALUES (2)`)
		return err
	})
	waitFor(t, pool, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)`)
	if _, err := holder.Exec(t.Context(), `SELECT FROM other FOR UPDATE`); err != nil {
		t.Errorf("the holder failed: %v", err)
	}
	if err := holder.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := writer.Wait(); err != nil {
		t.Errorf("the writer failed: %v", err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "deadlock") {
		t.Errorf("warnings: %q", warnings)
	}
	if n := queryOne[int](t, pool, `SELECT count(*)::int FROM orders`); n != 2 {
		t.Errorf("%d rows are written, want 2", n)
	}
	if n := losses(t, pool); n != 1 {
		t.Errorf("%d losses, want 1", n)
	}
}

// TestWatch_NoRights has a role write that may do nothing but write the table, with a
// search_path of functions that would do harm.
func TestWatch_NoRights(t *testing.T) {
	t.Run("AtOnce", func(t *testing.T) { watchWithoutRights(t, installed(t)) })
	t.Run("ThroughOutbox", func(t *testing.T) {
		pool := installed(t)
		exec(t, pool, `CREATE TABLE deferred (id int PRIMARY KEY REFERENCES deferred DEFERRABLE)`)
		watchWithoutRights(t, pool)
	})
}

func watchWithoutRights(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	role := newRole(t, pool, "writer")
	exec(t, pool,
		`CREATE TABLE orders (id text PRIMARY KEY, total int)`,
		`GRANT INSERT, UPDATE, SELECT ON orders TO `+role,
		`CREATE SCHEMA evil AUTHORIZATION `+role)
	watch(t, pool, "orders", live.WatchOptions{})
	l := listen(t, pool)
	traps := []string{`SET ROLE ` + role, `SET search_path = evil, pg_catalog`, `SET TimeZone = 'Asia/Tokyo'`}
	for _, f := range []string{
		`nextval(text) RETURNS bigint`, `nextval(regclass) RETURNS bigint`, `octet_length(text) RETURNS int`,
		`pg_notify(text, text) RETURNS void`, `concat(text, text) RETURNS text`, `pg_advisory_xact_lock(bigint) RETURNS void`,
		`json_build_object(text, text, text, text, text, int) RETURNS json`, `set_config(text, text, boolean) RETURNS text`,
		`pg_notification_queue_usage() RETURNS float8`, `pg_try_advisory_xact_lock(bigint) RETURNS boolean`, `concat_ws(text, text, text) RETURNS text`, `left(text, int) RETURNS text`,
		`current_setting(text) RETURNS text`, `current_setting(text, boolean) RETURNS text`, `clock_timestamp() RETURNS timestamptz`,
	} {
		traps = append(traps, `CREATE FUNCTION evil.`+f+` LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil ran'; END $$`)
	}
	warnings := warned(t, pool, slices.Concat(traps, []string{
		`CREATE FUNCTION evil.gt(bigint, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil ran'; END $$`,
		`CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil ran'; END $$`,
		`CREATE FUNCTION evil.cat(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil ran'; END $$`,
		`CREATE FUNCTION evil.same(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil ran'; END $$`,
		`CREATE FUNCTION evil.larger(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil ran'; END $$`,
		`CREATE FUNCTION evil.more(float8, float8) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil ran'; END $$`,
		`CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.same)`,
		`CREATE OPERATOR evil.> (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.larger)`,
		`CREATE OPERATOR evil.> (LEFTARG = float8, RIGHTARG = float8, FUNCTION = evil.more)`,
		`CREATE OPERATOR evil.> (LEFTARG = bigint, RIGHTARG = int, FUNCTION = evil.gt)`,
		`CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq)`,
		`CREATE OPERATOR evil.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq)`,
		`CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.cat)`,
		`CREATE TYPE evil.text AS (a int)`, `CREATE TYPE evil.json AS (a int)`,
		`INSERT INTO public.orders VALUES ('1', 2)`,
		`UPDATE public.orders SET total = 3`,
		`UPDATE public.orders SET id = '2'`,
	})...)
	if len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
	l.wantTold(`orders_created orders 1 {"op":"created","id":"1","total":2}`, `orders_changed orders 1 {"op":"changed","id":"1","total":3}`,
		`orders_deleted orders 1 {"op":"deleted","id":"1","total":3}`, `orders_created orders 2 {"op":"created","id":"2","total":3}`)

	for _, sql := range []string{
		`SELECT attune_live.notify('c', 't', '1', '{}')`, `SELECT attune_live.publish('c', 't', '1', NULL, '{}')`,
		`SELECT attune_live.lose('', '')`, `SELECT * FROM attune_live.notification_log`,
	} {
		for _, usage := range []string{`REVOKE USAGE ON SCHEMA attune_live FROM `, `GRANT USAGE ON SCHEMA attune_live TO `} {
			exec(t, pool, usage+role)
			tx, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), `SET LOCAL ROLE `+role); err != nil {
				t.Fatal(err)
			}
			_, err = tx.Exec(t.Context(), sql)
			// notify() is for whoever may use the schema, the rest for nobody else.
			allowed := strings.HasPrefix(usage, "GRANT") && strings.Contains(sql, "notify(")
			if (err == nil) != allowed {
				t.Errorf("%s, %s: %v", usage, sql, err)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestWatch_Bulk: however many rows a transaction writes, it takes few transaction
// ids, and one row that can not be told does not take others with it.
func TestWatch_Bulk(t *testing.T) {
	const rows = 1000
	pool := installed(t)
	exec(t, pool, `CREATE TABLE orders (id text PRIMARY KEY)`)
	watch(t, pool, "orders", live.WatchOptions{})
	xid := func() int64 {
		return queryOne[int64](t, pool, `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint`)
	}
	before := xid()
	warnings := warned(t, pool, fmt.Sprintf(`INSERT INTO orders SELECT CASE WHEN i %% 100 = 1 THEN 'b b' || i ELSE 'x' || i END
		FROM generate_series(1, %d) i`, rows))
	if used := xid() - before; used > 60 {
		t.Errorf("%d transaction ids for one transaction", used)
	}
	if len(warnings) != rows/100 {
		t.Errorf("%d warnings, want %d", len(warnings), rows/100)
	}
	want := queryOne[[]string](t, pool, `SELECT array_agg(id ORDER BY substr(id, 2)::int) FROM orders WHERE id LIKE 'x%'`)
	got := queryOne[[]string](t, pool, `SELECT array_agg(entity_id ORDER BY seq) FROM attune_live.notification_log`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-written +logged:\n%s", diff)
	}
}
