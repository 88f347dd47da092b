package live_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"attune/pg/live"
)

// everything describes all that a database holds besides PostgreSQL's own.
func everything(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	return queryOne[[]string](t, pool, `
		SELECT coalesce(array_agg(d ORDER BY d), '{}') FROM (
			SELECT 'schema ' || nspname AS d FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'
			UNION ALL SELECT 'class ' || oid::regclass FROM pg_class WHERE oid >= 16384 AND relkind <> 't' AND relname !~ '^pg_toast'
			UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc WHERE oid >= 16384
			UNION ALL SELECT 'type ' || typname FROM pg_type WHERE oid >= 16384 AND typname !~ '^pg_toast'
			UNION ALL SELECT 'trigger ' || tgname || ' ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal
		) objects`)
}

func TestUnwatch(t *testing.T) {
	pool := installed(t)
	exec(t, pool,
		`CREATE TABLE orders (id int PRIMARY KEY)`,
		`CREATE TABLE other (id int PRIMARY KEY)`,
		`CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`,
		`CREATE TRIGGER zz_attune_live_theirs AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION theirs()`)
	watch(t, pool, "other", live.WatchOptions{})
	before := everything(t, pool)
	watch(t, pool, "orders", live.WatchOptions{})
	if err := live.Unwatch(t.Context(), pool, "orders"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, everything(t, pool)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	for _, table := range []string{"orders", "missing"} {
		if err := live.Unwatch(t.Context(), pool, table); !errors.Is(err, live.ErrNotWatched) {
			t.Errorf("unwatch %s: %v", table, err)
		}
	}
	if err := live.Unwatch(t.Context(), fresh(t), "orders"); !errors.Is(err, live.ErrNotInstalled) {
		t.Errorf("not installed: %v", err)
	}
	l := listen(t, pool)
	exec(t, pool, `INSERT INTO orders VALUES (1)`, `INSERT INTO other VALUES (2)`)
	l.wantTold(`other_created other 2 {"op":"created","id":2}`)
}

func TestUnwatch_TableDropped(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE SCHEMA shop`)
	before := everything(t, pool)
	for table, spellings := range map[string][]string{
		`public.orders`: {`public.orders`, `orders`, `PUBLIC."orders"`, `"public"."orders"`},
		`public."Odd"`:  {`public."Odd"`, `"Odd"`},
		`shop.orders`:   {`shop.orders`},
	} {
		for _, given := range spellings {
			exec(t, pool, `CREATE TABLE `+table+` (id int PRIMARY KEY)`)
			watch(t, pool, table, live.WatchOptions{})
			exec(t, pool, `DROP TABLE `+table)
			s, err := live.ReadStatus(t.Context(), pool)
			if err != nil || len(s.Watches) != 1 || !slices.Equal(s.Watches[0].Problems, []string{"the table was dropped"}) {
				t.Fatalf("%+v, %v", s.Watches, err)
			}
			for _, other := range []string{`other`, `odd`, `other.orders`} {
				if err := live.Unwatch(t.Context(), pool, other); !errors.Is(err, live.ErrNotWatched) {
					t.Errorf("unwatch %s after %s was dropped: %v", other, table, err)
				}
			}
			if err := live.Unwatch(t.Context(), pool, given); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, everything(t, pool)); diff != "" {
				t.Errorf("unwatch %s (-before +after):\n%s", given, diff)
			}
		}
	}
}

// TestWatch_TableMadeAnew: what a table left that was dropped is not in the way of the
// one that bears its name now.
func TestWatch_TableMadeAnew(t *testing.T) {
	pool := installed(t)
	before := everything(t, pool)
	exec(t, pool, `CREATE TABLE orders (id int PRIMARY KEY)`)
	watch(t, pool, "orders", live.WatchOptions{})
	exec(t, pool, `DROP TABLE orders`, `CREATE TABLE orders (id int PRIMARY KEY)`)
	watch(t, pool, "orders", live.WatchOptions{})
	left := `INSERT INTO attune_live.watch (relation, name, function, options, digest) VALUES (1::regclass, '"public"."orders"', 'watch_1', '{}', '')`
	for _, made := range []string{`SELECT`, left} {
		exec(t, pool, made)
		watch(t, pool, "orders", live.WatchOptions{})
		s, err := live.ReadStatus(t.Context(), pool)
		if err != nil || len(s.Watches) != 1 || len(s.Watches[0].Problems) > 0 {
			t.Errorf("after %s: %+v, %v", made, s.Watches, err)
		}
	}

	// The table comes before what was left.
	exec(t, pool, left)
	if err := live.Unwatch(t.Context(), pool, "public.orders"); err != nil {
		t.Fatal(err)
	}
	if n := queryOne[int](t, pool, `SELECT count(*)::int FROM pg_trigger WHERE tgrelid = 'orders'::regclass`); n != 0 {
		t.Errorf("%d triggers are left", n)
	}
	if err := live.Unwatch(t.Context(), pool, "public.orders"); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `DROP TABLE orders`)
	if diff := cmp.Diff(before, everything(t, pool)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	if n := queryOne[int](t, pool, `SELECT count(*)::int FROM attune_live.watch`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

func TestStatus_ColumnDropped(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE TABLE orders (id int PRIMARY KEY, n int)`)
	watch(t, pool, "orders", live.WatchOptions{})
	exec(t, pool, `ALTER TABLE orders DROP COLUMN n CASCADE`)
	s, err := live.ReadStatus(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`it has no column "n": it has id`, "the trigger zz_attune_live_changed is missing"}
	if diff := cmp.Diff(want, s.Watches[0].Problems); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	watch(t, pool, "orders", live.WatchOptions{})
	if s, err = live.ReadStatus(t.Context(), pool); err != nil || len(s.Watches[0].Problems) > 0 {
		t.Errorf("watched again: %+v, %v", s.Watches, err)
	}
}

func TestStatus_Log(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `SELECT attune_live.notify('c', 't', i::text, '{}') FROM generate_series(1, 10) i`)
	s, err := live.ReadStatus(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	if s.Rows != 10 || s.OldestSeq != 1 || s.NewestSeq != 10 || s.Oldest == nil || s.Newest.Before(*s.Oldest) ||
		s.Bytes == 0 || s.Losses != 0 || s.LogID == "" || s.SchemaVersion != 1 {
		t.Errorf("%+v", s)
	}
	if _, err := live.ReadStatus(t.Context(), fresh(t)); !errors.Is(err, live.ErrNotInstalled) {
		t.Errorf("not installed: %v", err)
	}
}

func TestUninstall(t *testing.T) {
	pool := fresh(t)
	exec(t, pool, `CREATE TABLE orders (id int PRIMARY KEY)`, `CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)`,
		`CREATE TABLE p1 PARTITION OF p DEFAULT`)
	before := everything(t, pool)
	for range 2 {
		if err := live.Install(t.Context(), pool); err != nil {
			t.Fatal(err)
		}
		watch(t, pool, "orders", live.WatchOptions{})
		watch(t, pool, "p", live.WatchOptions{})
		exec(t, pool, `INSERT INTO orders VALUES (1)`, `DELETE FROM orders`, `SELECT attune_live.notify('c', 't', '1', '{}')`)
		left, err := live.Uninstall(t.Context(), pool)
		if err != nil || len(left) > 0 {
			t.Fatalf("left: %v, %v", left, err)
		}
		if diff := cmp.Diff(before, everything(t, pool)); diff != "" {
			t.Errorf("-before +after:\n%s", diff)
		}
	}
	if script, left, err := live.UninstallSQL(t.Context(), pool); script != "" || left != nil || err != nil {
		t.Errorf("nothing is installed: %q, %v, %v", script, left, err)
	}
}

// TestUninstall_Shared: what others keep in the schema stays, and is named.
func TestUninstall_Shared(t *testing.T) {
	pool := fresh(t)
	exec(t, pool,
		`CREATE SCHEMA attune_live`,
		`CREATE TYPE attune_live.state AS ENUM ('a')`,
		`CREATE TABLE attune_live."Jobs" (id bigserial PRIMARY KEY, s attune_live.state)`,
		`CREATE FUNCTION attune_live.state_of(x int) RETURNS int LANGUAGE sql AS 'SELECT 1'`,
		`CREATE SEQUENCE attune_live.numbers`,
		`CREATE VIEW attune_live.seen AS SELECT 1`)
	before := everything(t, pool)
	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`table attune_live."Jobs"`, `function attune_live.state_of(x integer)`, `sequence attune_live.numbers`,
		`view attune_live.seen`, `type attune_live.state`,
	}
	for range 2 {
		left, err := live.Uninstall(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range left {
			got = append(got, l.String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if diff := cmp.Diff(before, everything(t, pool)); diff != "" {
			t.Errorf("-before +after:\n%s", diff)
		}
	}
}

// TestScripts runs by hand what the dry run prints.
func TestScripts(t *testing.T) {
	pool := fresh(t)
	exec(t, pool, `CREATE TABLE orders (id int PRIMARY KEY, "a b" text)`)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	before := everything(t, pool)
	for _, script := range []func() (string, error){
		func() (string, error) { return live.InstallSQL(), nil },
		func() (string, error) { return live.WatchSQL(t.Context(), pool, "orders", live.WatchOptions{}) },
		func() (string, error) { return live.UnwatchSQL(t.Context(), pool, "orders") },
		func() (string, error) { return live.WatchSQL(t.Context(), pool, "orders", live.WatchOptions{}) },
		func() (string, error) {
			script, _, err := live.UninstallSQL(t.Context(), pool)
			return script, err
		},
	} {
		sql, err := script()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(sql, "BEGIN;\n") || !strings.HasSuffix(sql, "COMMIT;\n") {
			t.Errorf("not one transaction:\n%s", sql)
		}
		if _, err := conn.Conn().PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatalf("%v:\n%s", err, sql)
		}
	}
	if diff := cmp.Diff(before, everything(t, pool)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}

// TestConcurrently: several instances start at once.
func TestConcurrently(t *testing.T) {
	pool := fresh(t)
	exec(t, pool, `CREATE TABLE orders (id int PRIMARY KEY)`)
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			return errors.Join(live.Install(t.Context(), pool), live.Watch(t.Context(), pool, "orders", live.WatchOptions{}))
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	l := listen(t, pool)
	exec(t, pool, `INSERT INTO orders VALUES (1)`)
	l.wantTold(`orders_created orders 1 {"op":"created","id":1}`)
}

func TestPrune(t *testing.T) {
	pool := installed(t)
	exec(t, pool,
		`SELECT attune_live.notify('c', 't', i::text, '{}') FROM generate_series(1, 2500) i`,
		`UPDATE attune_live.notification_log SET created = now() - interval '1 hour' WHERE seq <= 1200`)
	for _, test := range []struct {
		retention            live.Retention
		deleted, first, last int64
	}{
		{live.Retention{}, 0, 1, 0},
		{live.Retention{MaxAge: 2 * time.Hour, MaxRows: 2500}, 0, 1, 0},
		{live.Retention{MaxRows: 2400, Batch: 7}, 100, 101, 100},
		{live.Retention{MaxAge: time.Minute}, 1100, 1201, 1200},
		{live.Retention{MaxAge: time.Minute}, 0, 1201, 1200},
		{live.Retention{MaxAge: time.Minute, MaxRows: 1000}, 300, 1501, 1500},
	} {
		deleted, err := live.Prune(t.Context(), pool, test.retention)
		if err != nil {
			t.Fatal(err)
		}
		first := queryOne[int64](t, pool, `SELECT min(seq) FROM attune_live.notification_log`)
		last := queryOne[int64](t, pool, `SELECT pruned_seq FROM attune_live.meta`)
		if deleted != test.deleted || first != test.first || last != test.last {
			t.Errorf("%+v: deleted %d, first left %d, pruned to %d; want %+v", test.retention, deleted, first, last, test)
		}
	}
	// Nothing is left: the numbers go on.
	exec(t, pool, `UPDATE attune_live.notification_log SET created = now() - interval '1 hour'`)
	if _, err := live.Prune(t.Context(), pool, live.Retention{MaxAge: time.Minute}); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `SELECT attune_live.notify('c', 't', '1', '{}')`)
	if s, err := live.ReadStatus(t.Context(), pool); err != nil || s.Rows != 1 || s.OldestSeq != 2501 || s.PrunedSeq != 2500 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestPrune_Concurrently: while one prunes, another leaves it to that, and neither
// waits for a writer that is holding the commit lock, nor he for them.
func TestPrune_Concurrently(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `SELECT attune_live.notify('c', 't', i::text, '{}') FROM generate_series(1, 500) i`)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`SET CONSTRAINTS ALL IMMEDIATE`, `SELECT attune_live.notify('c', 't', '1', '{}')`} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var group errgroup.Group
	for range 4 {
		group.Go(func() error {
			_, err := live.Prune(t.Context(), pool, live.Retention{MaxRows: 100, Batch: 10})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := live.Prune(t.Context(), pool, live.Retention{MaxRows: 100}); err != nil {
		t.Fatal(err)
	}
	if n := queryOne[int](t, pool, `SELECT count(*)::int FROM attune_live.notification_log`); n != 100 {
		t.Errorf("%d rows are left, want 100", n)
	}
}
