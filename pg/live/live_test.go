package live_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"attune/pg/live"
)

func TestInstall_Again(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `SELECT attune_live.notify('orders', 'orders', '1', '{}')`)
	id := queryOne[string](t, pool, `SELECT log_id FROM attune_live.meta`)
	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if again := queryOne[string](t, pool, `SELECT log_id FROM attune_live.meta`); again != id || id == "" {
		t.Errorf("log id %q became %q", id, again)
	}
	exec(t, pool, `SELECT attune_live.notify('orders', 'orders', '2', '{}')`)
	if n := queryOne[int64](t, pool, `SELECT max(seq) FROM attune_live.notification_log`); n != 2 {
		t.Errorf("seq is %d, want 2", n)
	}
	if n := queryOne[int64](t, pool, `SELECT last_value FROM attune_live.losses`); n != 0 {
		t.Errorf("%d losses", n)
	}
}

func TestNotify_Announced(t *testing.T) {
	pool := installed(t)
	l := listen(t, pool)
	exec(t, pool, `SELECT attune_live.notify('orders "x"', 'orders', '42', '{"status": "new", "text": "a\nb"}', 7)`)
	a := l.next()
	got, err := json.Marshal(a.Notification)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"type":"notification","notification_type":"orders \"x\"","entity_type":"orders","entity_id":42,"user_id":7,` +
		`"payload":{"text":"a\nb","status":"new"},"timestamp":"0001-01-01T00:00:00.000000Z","cursor":""}`
	if diff := cmp.Diff(want, string(got)); diff != "" || a.Seq != 1 {
		t.Errorf("seq %d, -want +got:\n%s", a.Seq, diff)
	}
	if n := queryOne[int](t, pool, `SELECT count(*)::int FROM attune_live.outbox`); n != 0 {
		t.Errorf("%d rows are left in the outbox", n)
	}
}

// TestAnnouncements_Requested shows who is announced to: nobody who has not asked, and
// whoever has from then on, with what was committed before in the log.
func TestAnnouncements_Requested(t *testing.T) {
	for name, write := range map[string]string{
		"notify": `SELECT attune_live.notify('orders', 'orders', '1', '{}')`,
		"watch":  `INSERT INTO orders DEFAULT VALUES`,
	} {
		t.Run(name, func(t *testing.T) {
			pool := installed(t)
			exec(t, pool, `CREATE TABLE orders (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY)`)
			watch(t, pool, "orders", live.WatchOptions{})
			l := listen(t, pool)
			if err := live.ReleaseAnnouncements(t.Context(), l.conn); err != nil {
				t.Fatal(err)
			}
			exec(t, pool, write)

			// One that is about to commit knows of no request.
			tx, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
			if _, err := tx.Exec(t.Context(), `SET CONSTRAINTS ALL IMMEDIATE; `+write, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			if ok, err := live.RequestAnnouncements(t.Context(), l.conn); ok || err != nil {
				t.Errorf("a request that a commit may have missed: %t, %v", ok, err)
			}
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if ok, err := live.RequestAnnouncements(t.Context(), l.conn); !ok {
				t.Fatalf("a request that nothing is in the way of: %t, %v", ok, err)
			}
			if n := queryOne[int](t, pool, `SELECT count(*)::int FROM attune_live.notification_log`); n != 2 {
				t.Errorf("%d rows in the log, want both", n)
			}
			exec(t, pool, write)
			if a := l.next(); a.Seq != 3 {
				t.Errorf("announced first: %d, want 3", a.Seq)
			}
		})
	}
}

func TestNotify_Large(t *testing.T) {
	pool := installed(t)
	l := listen(t, pool)
	for _, size := range []int{7900, 8000, 1 << 20} {
		exec(t, pool, `SELECT attune_live.notify('orders', 'orders', 'a.b', jsonb_build_object('text', repeat('x', `+
			queryOne[string](t, pool, `SELECT $1::int::text`, size)+`)))`)
		a := l.next()
		if announced := a.Notification != nil; announced != (size < 7980) {
			t.Errorf("size %d: announced with its body: %t", size, announced)
		}
		stored := queryOne[int](t, pool, `SELECT length(payload->>'text') FROM attune_live.notification_log WHERE seq = $1`, a.Seq)
		if stored != size {
			t.Errorf("size %d: %d are stored", size, stored)
		}
	}
}

// TestNotify_Arguments: what is no notification is a loss. The writer is warned, and
// not failed.
func TestNotify_Arguments(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE TABLE written (args text)`)
	l := listen(t, pool)
	wrong := map[string][]string{
		"channel":     {`'', 't', '1', '{}'`, `NULL, 't', '1', '{}'`, `repeat('é', 32), 't', '1', '{}'`, `E'a\nb', 't', '1', '{}'`},
		"entity_type": {`'c', 'a b', '1', '{}'`, `'c', NULL, '1', '{}'`, `'c', repeat('t', 64), '1', '{}'`, `'c', 'é', '1', '{}'`},
		"entity_id":   {`'c', 't', E'1\n', '{}'`, `'c', 't', NULL, '{}'`, `'c', 't', '', '{}'`, `'c', 't', repeat('1', 129), '{}'`},
		"payload":     {`'c', 't', '1', NULL`},
	}
	count := 0
	for name, all := range wrong {
		for _, args := range all {
			count++
			warnings := warned(t, pool, `INSERT INTO written VALUES ($$`+args+`$$)`, `SELECT attune_live.notify(`+args+`)`)
			if len(warnings) != 1 || !strings.Contains(warnings[0], ": "+name+" must be ") {
				t.Errorf("%s: warnings %q", args, warnings)
			}
			if a := l.next(); !a.Lost {
				t.Errorf("%s: announced %+v, want a loss", args, a)
			}
		}
	}
	if n := queryOne[int](t, pool, `SELECT count(*)::int FROM written`); n != count {
		t.Errorf("%d transactions went through, want %d", n, count)
	}
	if n := losses(t, pool); n != int64(count) {
		t.Errorf("%d losses are counted, want %d", n, count)
	}
	if n := queryOne[int](t, pool, `SELECT count(*)::int FROM attune_live.notification_log`); n != 0 {
		t.Errorf("%d rows are logged", n)
	}
}

// TestNotify_Accepted goes to the limits. The payload may be any JSON.
func TestNotify_Accepted(t *testing.T) {
	pool := installed(t)
	l := listen(t, pool)
	for _, payload := range []string{`{}`, `[1]`, `"text"`, `1.50`, `null`} {
		warnings := warned(t, pool, `SELECT attune_live.notify(repeat('é', 31), repeat('t', 63), repeat('1', 128), '`+payload+`', -9223372036854775808)`)
		if len(warnings) > 0 {
			t.Errorf("%s: warnings %q", payload, warnings)
		}
		if a := l.next(); a.Notification == nil || string(a.Notification.Payload) != payload {
			t.Errorf("%s: announced %+v", payload, a)
		}
	}
}
