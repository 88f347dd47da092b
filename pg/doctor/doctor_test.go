package doctor_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"attune/pg/doctor"
	"attune/pg/live"
	"attune/pg/pgtest"
)

// Nothing is wrong with a platform's database as it is: what there is to say are
// notes.
func TestExamine_Platform(t *testing.T) {
	report := examine(t, config(database(t, platform)))
	wantNothingToDo(t, report)
	for check, parts := range map[string][]string{
		"reachable": {"PostgreSQL answers at host", `user "attune"`}, "standby": {"primary"},
		"writable": {"may write"}, "encoding": {"UTF8"}, "pooler": {"no pooler"}, "listen": {"came back in"},
		"queue": {"0.0 % full"}, "listeners": {"LISTEN"}, "connections": {"free"}, "privileges": {"may do"},
		"executions": {`"attune"."execution"`}, "log": {"no log"}, "triggers": {"3 triggers seen"},
		"payload_entity": {"name an entity"},
	} {
		want(t, report, check, doctor.OK, parts...)
	}
	want(t, report, "payload_size", doctor.Note, "notify_on_notification_insert on attune.notification (entity_type, entity, activity)")
	want(t, report, "search_path", doctor.Note, "attune.notify_execution_created", "ALTER FUNCTION")
	want(t, report, "channels", doctor.Note, "not seen to notify 14", "attune_notifications")
}

func TestExamine_Standalone(t *testing.T) {
	url := pgtest.Database(t)
	migrate(t, url)
	report := examine(t, config(url))
	wantNothingToDo(t, report)
	want(t, report, "executions", doctor.OK, `"attune"."execution"`)
	want(t, report, "log", doctor.OK, "no losses")
	want(t, report, "search_path", doctor.OK)
	want(t, report, "payload_size", doctor.OK)
}

// What is examined is left as it was.
func TestExamine_WritesNothing(t *testing.T) {
	url := database(t, platform)
	conn := pgtest.Connect(t, url)
	count := func() (objects, rows, listening int) {
		t.Helper()
		err := conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_class) + (SELECT count(*) FROM pg_proc),
			(SELECT count(*) FROM attune.execution), (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'attune doctor')`).
			Scan(&objects, &rows, &listening)
		if err != nil {
			t.Fatal(err)
		}
		return objects, rows, listening
	}
	objects, rows, _ := count()
	examine(t, config(url))
	objectsAfter, rowsAfter, _ := count()
	if objects != objectsAfter || rows != rowsAfter {
		t.Errorf("objects %d, then %d; rows %d, then %d", objects, objectsAfter, rows, rowsAfter)
	}
	eventually(t, "its sessions end", func() bool { _, _, n := count(); return n == 0 })
}

func TestExamine_Unreachable(t *testing.T) {
	good := pgtest.Database(t)
	var lc net.ListenConfig
	silent, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for name, tt := range map[string]struct {
		url  string
		want []string
	}{
		"Silent":        {"postgres://u:s3cr3t@" + silent.Addr().String() + "/db", []string{"nothing answered in time"}},
		"NoServer":      {"postgres://u:s3cr3t@127.0.0.1:1/db", []string{"host 127.0.0.1 port 1", "check that the server runs"}},
		"NoHost":        {"postgres://u:s3cr3t@no-such-host.invalid/db", []string{"check the host"}},
		"NoURL":         {"postgres://u:s3cr3t@:x:/", []string{"want postgres://"}},
		"WrongPassword": {withPassword(t, good, "s3cr3t"), []string{"check user and password"}},
		"NoDatabase":    {inDatabase(t, good, "missing"), []string{"create the database"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report := examine(t, config(tt.url))
			if report.OK || len(report.Findings) != 1 {
				t.Errorf("got %+v, want one finding", report)
			}
			want(t, report, "reachable", doctor.Problem, tt.want...)
			if f := report.Findings[0]; strings.Contains(f.Message+f.Remedy, "s3cr3t") || strings.Contains(f.Message, f.Remedy) {
				t.Errorf("finding %+v", f)
			}
		})
	}
}

// A database that answers some questions only: what was not examined is said.
func TestExamine_NoAnswer(t *testing.T) {
	url := database(t, platform)
	tx, err := pgtest.Connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE pg_trigger IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	report := examine(t, config(url))
	want(t, report, "listen", doctor.OK)
	want(t, report, "triggers", doctor.Warning, "no answer in time")
	want(t, report, "channels", doctor.Warning, "no answer in time")
}

// Names that would break lines, or command a terminal, do not.
func TestExamine_OddNames(t *testing.T) {
	const table = "\"a\x1b[31m\nb\""
	cfg := config(database(t, "CREATE TABLE "+table+` (id bigint);
		CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('orders', NEW.id::text); RETURN NULL; END $$;
		CREATE TRIGGER "x'y" AFTER INSERT ON `+table+` FOR EACH ROW EXECUTE FUNCTION tell()`))
	cfg.Channels = []string{"orders"}
	want(t, examine(t, cfg), "payload_entity", doctor.Warning, "x'y on public.a\uFFFD[31m\uFFFDb")
}

func TestExamine_Log(t *testing.T) {
	url := database(t, platform)
	conn := pgtest.Connect(t, url)
	if err := live.Install(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	cfg := config(url)
	cfg.LogNeeded = true
	want(t, examine(t, cfg), "log", doctor.OK, "no losses")
	execute(t, url, `SELECT nextval('attune_live.losses') FROM generate_series(1, 3)`)
	want(t, examine(t, cfg), "log", doctor.Warning, "3 notifications", "the server's log")

	t.Run("Missing", func(t *testing.T) {
		cfg := config(database(t, platform))
		cfg.LogNeeded = true
		want(t, examine(t, cfg), "log", doctor.Problem, "attune db install")
	})
	t.Run("Unreadable", func(t *testing.T) {
		report := examine(t, config(pgtest.Role(t, url, "")))
		want(t, report, "privileges", doctor.Problem, "may not read the log", "GRANT USAGE ON SCHEMA attune_live TO")
	})
	t.Run("Grants", func(t *testing.T) {
		url := database(t, `CREATE SCHEMA shop; CREATE TABLE shop.orders (id bigint PRIMARY KEY, status text, secret text)`)
		owner := pgtest.Connect(t, url)
		if err := live.Install(t.Context(), owner); err != nil {
			t.Fatal(err)
		}
		if err := live.Watch(t.Context(), owner, "shop.orders", live.WatchOptions{Columns: []string{"status"}}); err != nil {
			t.Fatal(err)
		}
		execute(t, url, `UPDATE shop.orders SET status = 'new'; INSERT INTO shop.orders VALUES (1, 'new', '')`)
		role := pgtest.Role(t, url, "")
		t.Cleanup(func() { dropOwned(t, url, role) })

		// Whoever does as he is told gets a role that can do all that attune does.
		report := examine(t, config(role))
		want(t, report, "privileges", doctor.Problem, "may not read the log")
		want(t, report, "privileges", doctor.Note, "may not prune the log", "GRANT DELETE ON attune_live.notification_log")
		execute(t, url, grants(report))
		report = examine(t, config(role))
		want(t, report, "privileges", doctor.Note, `"shop"."orders"`, "/entities", "GRANT SELECT ON")
		execute(t, url, grants(report))
		want(t, examine(t, config(role)), "privileges", doctor.OK, "may do what attune does")

		conn := pgtest.Connect(t, role)
		if n, err := live.Prune(t.Context(), conn, live.Retention{MaxAge: time.Nanosecond}); err != nil || n != 1 {
			t.Errorf("pruned %d rows, %v", n, err)
		}
		table, err := live.FindEntityTable(t.Context(), conn, "orders")
		if err != nil {
			t.Fatal(err)
		}
		if row, err := table.Read(t.Context(), conn, "1"); err != nil || row.Payload == nil {
			t.Errorf("read %+v, %v", row, err)
		}

		// The columns that are told are enough.
		execute(t, url, `REVOKE SELECT ON shop.orders FROM `+userOf(t, role)+`; GRANT SELECT (id, status) ON shop.orders TO `+userOf(t, role))
		want(t, examine(t, config(role)), "privileges", doctor.OK)
		if row, err := table.Read(t.Context(), conn, "1"); err != nil || row.Payload == nil {
			t.Errorf("read %+v, %v", row, err)
		}
		execute(t, url, `REVOKE SELECT (id) ON shop.orders FROM `+userOf(t, role))
		want(t, examine(t, config(role)), "privileges", doctor.Note, `"shop"."orders"`)
	})
	t.Run("Watches", func(t *testing.T) {
		url := database(t, `CREATE TABLE orders (id bigint PRIMARY KEY, status text)`)
		conn := pgtest.Connect(t, url)
		if err := live.Install(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		if err := live.Watch(t.Context(), conn, "orders", live.WatchOptions{}); err != nil {
			t.Fatal(err)
		}
		report := examine(t, config(url))
		wantNothingToDo(t, report)
		want(t, report, "log", doctor.OK, "1 watched table")
		execute(t, url, `ALTER TABLE orders DISABLE TRIGGER ALL`)
		want(t, examine(t, config(url)), "log", doctor.Problem, `"public"."orders"`, "is disabled", "attune db watch")
		execute(t, url, `DROP TABLE attune_live.watch`)
		want(t, examine(t, config(url)), "log", doctor.Warning, "earlier attune", "attune db install")
	})
	t.Run("OldRows", func(t *testing.T) {
		execute(t, url, `INSERT INTO attune_live.notification_log VALUES (nextval('attune_live.seq'), 'c', 't', '1', NULL, '{}', now() - interval '40 days');
			SELECT setval('attune_live.losses', 0, false)`)
		want(t, examine(t, cfg), "log", doctor.Note, "nobody seems to prune it")
	})
}
