package live_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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

func TestNotify_Arguments(t *testing.T) {
	pool := installed(t)
	for name, args := range map[string]string{
		"channel":     `'', 't', '1', '{}'`,
		"entity_type": `'c', 'a b', '1', '{}'`,
		"entity_id":   `'c', 't', E'1\n', '{}'`,
		"payload":     `'c', 't', '1', NULL`,
	} {
		_, err := pool.Exec(t.Context(), `SELECT attune_live.notify(`+args+`)`)
		if err == nil || !strings.Contains(err.Error(), name+" must") {
			t.Errorf("%s: %v", args, err)
		}
	}
	for _, args := range []string{
		`'', 't', '1', '{}'`, `NULL, 't', '1', '{}'`, `repeat('é', 32), 't', '1', '{}'`, `E'a\nb', 't', '1', '{}'`,
		`'c', NULL, '1', '{}'`, `'c', repeat('t', 64), '1', '{}'`, `'c', 'é', '1', '{}'`,
		`'c', 't', NULL, '{}'`, `'c', 't', '', '{}'`, `'c', 't', repeat('1', 129), '{}'`,
	} {
		if _, err := pool.Exec(t.Context(), `SELECT attune_live.notify(`+args+`)`); err == nil {
			t.Errorf("%s: accepted", args)
		}
	}
	exec(t, pool, `SELECT attune_live.notify(repeat('é', 31), repeat('t', 63), repeat('1', 128), '[1]', -9223372036854775808)`)
}
