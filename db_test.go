package main_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attune/pg/live"
	"attune/pg/pgtest"
	"attune/wire"
)

// A table that nobody has seen before is watched, followed from a cursor over a
// restart of the server, and left as it was.
func TestDB(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := pgtest.Connect(t, url)
	execSQL(t, db, `CREATE TABLE public.orders (id bigint PRIMARY KEY, status text, total numeric, customer_id bigint, note text)`)
	before := catalog(t, db)
	env := []string{"DATABASE_URL=" + url}
	attune := func(args ...string) string {
		t.Helper()
		code, stdout, stderr := run(t, env, append([]string{"db"}, args...)...)
		if code != 0 {
			t.Fatalf("attune db %s: exit code %d: %s", strings.Join(args, " "), code, stderr)
		}
		return stdout
	}
	watch := []string{"watch", "public.orders", "--columns", "status,total", "--user-id", "customer_id"}

	// The SQL that is printed is what is run: by hand it does the same.
	execSQL(t, db, attune("install", "--dry-run"))
	execSQL(t, db, attune(append(watch, "--dry-run")...))
	if again := attune(append(watch, "--dry-run")...); strings.Contains(again, "CREATE") {
		t.Errorf("watching it again would do\n%s", again)
	}
	attune("install")
	attune(watch...)

	s := serve(t, env...)
	stream := events(t, s, "?filter=entity:orders:42")
	start := decode[wire.Welcome](t, stream.next(t, "welcome")).Cursor.String()
	execSQL(t, db, `INSERT INTO orders VALUES (41, 'new', 1, NULL, ''), (42, 'new', 9.50, NULL, 'a')`)
	execSQL(t, db, `UPDATE orders SET note = 'b'`) // not one of the columns
	execSQL(t, db, `UPDATE orders SET status = 'shipped' WHERE id = 42`)
	for _, want := range []string{"orders_created", "orders_changed"} {
		if n := decode[wire.Notification](t, stream.next(t, "message")); n.NotificationType != want || n.EntityID != wire.IntID(42) {
			t.Errorf("got %+v, want %s of 42", n, want)
		}
	}
	s.signal(syscall.SIGKILL)
	s.wait()
	execSQL(t, db, `DELETE FROM orders`) // nobody listens

	s = serve(t, env...)
	stream = events(t, s, "?filter=entity:orders:42&cursor="+start)
	if again := decode[wire.Welcome](t, stream.next(t, "welcome")).Cursor.String(); again != start {
		t.Errorf("delivery starts at %s, want %s", again, start)
	}
	for _, want := range []string{"orders_created", "orders_changed", "orders_deleted"} {
		if n := decode[wire.Notification](t, stream.next(t, "message")); n.NotificationType != want {
			t.Errorf("got %+v, want %s", n, want)
		}
	}

	status := decode[live.Status](t, attune("status", "--json"))
	if status.NewestSeq != 5 || len(status.Watches) != 1 || len(status.Watches[0].Problems) != 0 {
		t.Errorf("status %+v", status)
	}
	if text := attune("status"); !strings.Contains(text, `"public"."orders": ok`) {
		t.Errorf("status says\n%s", text)
	}
	attune("unwatch", "public.orders")
	attune("uninstall")
	if diff := cmp.Diff(before, catalog(t, db)); diff != "" {
		t.Errorf("a trace is left (-before +after):\n%s", diff)
	}
}

// A dry run prints what would be run, which does the same by hand, and runs nothing.
func TestDB_DryRun(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := pgtest.Connect(t, url)
	attune := func(args ...string) string {
		t.Helper()
		code, stdout, stderr := run(t, []string{"DATABASE_URL=" + url}, append([]string{"db"}, args...)...)
		if code != 0 {
			t.Fatalf("attune db %s: exit code %d: %s", strings.Join(args, " "), code, stderr)
		}
		return stdout
	}
	execSQL(t, db, `CREATE TABLE public.orders (id bigint PRIMARY KEY)`)
	before := catalog(t, db)
	attune("install")
	unwatched := catalog(t, db)
	watch := []string{"watch", "public.orders"}
	attune(watch...)
	for _, tt := range []struct {
		command    []string
		contains   string
		afterwards []string
	}{
		{[]string{"unwatch", "public.orders"}, `DROP TRIGGER IF EXISTS "zz_attune_live_created" ON "public"."orders";`, unwatched},
		{watch, `CREATE CONSTRAINT TRIGGER "zz_attune_live_created"`, catalog(t, db)},
		{[]string{"uninstall"}, `DROP SCHEMA attune_live;`, before},
		{[]string{"install"}, `CREATE SCHEMA attune_live;`, unwatched},
	} {
		now := catalog(t, db)
		sql := attune(append(tt.command, "--dry-run")...)
		if !strings.Contains(sql, tt.contains) {
			t.Errorf("attune db %s would do\n%swant %s", strings.Join(tt.command, " "), sql, tt.contains)
		}
		if diff := cmp.Diff(now, catalog(t, db)); diff != "" {
			t.Errorf("the dry run of attune db %s made a difference (-before +after):\n%s", strings.Join(tt.command, " "), diff)
		}
		execSQL(t, db, sql)
		if diff := cmp.Diff(tt.afterwards, catalog(t, db)); diff != "" {
			t.Errorf("the SQL of attune db %s (-want +got):\n%s", strings.Join(tt.command, " "), diff)
		}
	}
}

func TestDB_Mistakes(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	for name, tt := range map[string]struct {
		env, args []string
		code      int
		want      string
	}{
		"NoDatabase":   {nil, []string{"status"}, 1, "--database-url"},
		"NotInstalled": {[]string{"DATABASE_URL=" + url}, []string{"status"}, 1, "attune db install"},
		"NoTable":      {[]string{"DATABASE_URL=" + url}, []string{"watch", "nowhere"}, 1, "nowhere"},
		"WhichTable":   {[]string{"DATABASE_URL=" + url}, []string{"watch"}, 2, "arg"},
		"NoSuchFlag":   {nil, []string{"watch", "orders", "--colums", "a"}, 2, "--colums"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, _, stderr := run(t, tt.env, append([]string{"db"}, tt.args...)...)
			if code != tt.code || !strings.Contains(stderr, tt.want) {
				t.Errorf("exit code %d, want %d; stderr %q, want it to say %q", code, tt.code, stderr, tt.want)
			}
		})
	}
}
