package live_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/pg/live"
	"attune/wire"
)

// watch makes a table watched.
func watch(t *testing.T, pool *pgxpool.Pool, table string, o live.WatchOptions) {
	t.Helper()
	if err := live.Watch(t.Context(), pool, table, o); err != nil {
		t.Fatal(err)
	}
}

// told describes a notification in a line.
func told(n *wire.Notification) string {
	user := ""
	if n.UserID != nil {
		user = fmt.Sprintf(" user %d", *n.UserID)
	}
	return fmt.Sprintf("%s %s %s%s %s", n.NotificationType, n.EntityType, n.EntityID, user, n.Payload)
}

// wantTold compares the next announcements.
func (l *listener) wantTold(want ...string) {
	l.t.Helper()
	for _, w := range want {
		a := l.next()
		if a.Notification == nil {
			l.t.Fatalf("got %+v, want %s", a, w)
		}
		if diff := gocmp.Diff(w, told(a.Notification)); diff != "" {
			l.t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func losses(t *testing.T, pool *pgxpool.Pool) int64 {
	t.Helper()
	return queryOne[int64](t, pool, `SELECT last_value FROM attune_live.losses`)
}

func TestWatch_Changes(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE TABLE orders (id int PRIMARY KEY, status text, total numeric, customer bigint, note text)`)
	watch(t, pool, "orders", live.WatchOptions{Columns: []string{"status", "total"}, UserID: "customer"})
	l := listen(t, pool)
	exec(t, pool,
		`INSERT INTO orders VALUES (42, 'new', 1.50, 7, 'x')`,
		`UPDATE orders SET note = 'y'`,         // not watched
		`UPDATE orders SET status = 'new'`,     // not changed
		`UPDATE orders SET status = 'shipped'`, // told
		`UPDATE orders SET customer = NULL, total = 1.5`,
		`UPDATE orders SET id = 43`,
		`DELETE FROM orders`)
	l.wantTold(
		`orders_created orders 42 user 7 {"op":"created","id":42,"status":"new","total":1.50}`,
		`orders_changed orders 42 user 7 {"op":"changed","id":42,"status":"shipped","total":1.50}`,
		`orders_changed orders 42 {"op":"changed","id":42,"status":"shipped","total":1.5}`,
		`orders_deleted orders 42 {"op":"deleted","id":42,"status":"shipped","total":1.5}`,
		`orders_created orders 43 {"op":"created","id":43,"status":"shipped","total":1.5}`,
		`orders_deleted orders 43 {"op":"deleted","id":43,"status":"shipped","total":1.5}`)
	if n := losses(t, pool); n != 0 {
		t.Errorf("%d losses", n)
	}
}

// TestWatch_Rekeyed gives rows other keys: whoever follows the old one must learn that
// it is gone, whatever else is told.
func TestWatch_Rekeyed(t *testing.T) {
	const rekey, change = `UPDATE orders SET id = 'B', n = 2, customer = 8`, `UPDATE orders SET n = 3`
	for name, test := range map[string]struct {
		options live.WatchOptions
		key     string // instead of text
		write   []string
		want    []string
	}{
		"All": {write: []string{rekey, change}, want: []string{
			`orders_deleted orders A user 7 {"op":"deleted","id":"A","n":1,"customer":7}`,
			`orders_created orders B user 8 {"op":"created","id":"B","n":2,"customer":8}`,
			`orders_changed orders B user 8 {"op":"changed","id":"B","n":3,"customer":8}`,
		}},
		"WithoutCreated": {options: live.WatchOptions{Created: live.NoChannel}, write: []string{rekey}, want: []string{
			`orders_deleted orders A user 7 {"op":"deleted","id":"A","n":1,"customer":7}`,
			`orders_changed orders B user 8 {"op":"changed","id":"B","n":2,"customer":8}`,
		}},
		"WithoutDeleted": {options: live.WatchOptions{Deleted: live.NoChannel}, write: []string{rekey}, want: []string{
			`orders_created orders B user 8 {"op":"created","id":"B","n":2,"customer":8}`,
		}},
		"WithoutChanged": {options: live.WatchOptions{Changed: live.NoChannel}, write: []string{change, rekey}, want: []string{
			`orders_deleted orders A user 7 {"op":"deleted","id":"A","n":3,"customer":7}`,
			`orders_created orders B user 8 {"op":"created","id":"B","n":2,"customer":8}`,
		}},
		"ChangedOnly": {options: live.WatchOptions{Created: live.NoChannel, Deleted: live.NoChannel}, write: []string{rekey}, want: []string{
			`orders_changed orders B user 8 {"op":"changed","id":"B","n":2,"customer":8}`,
		}},
		"EqualButNotTheSame": {key: `text COLLATE blind`, write: []string{`UPDATE orders SET id = 'a'`}, want: []string{
			`orders_deleted orders A user 7 {"op":"deleted","id":"A","n":1,"customer":7}`,
			`orders_created orders a user 7 {"op":"created","id":"a","n":1,"customer":7}`,
		}},
		"ByATrigger": {
			write: []string{
				`CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := 'C'; RETURN NEW; END $$`,
				`CREATE TRIGGER other BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION other()`, `UPDATE orders SET n = 2`,
			},
			want: []string{
				`orders_deleted orders A user 7 {"op":"deleted","id":"A","n":1,"customer":7}`,
				`orders_created orders C user 7 {"op":"created","id":"C","n":2,"customer":7}`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pool := installed(t)
			exec(t, pool,
				`CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
				`CREATE TABLE orders (id `+cmp.Or(test.key, "text")+` PRIMARY KEY, n int, customer bigint)`,
				`INSERT INTO orders VALUES ('A', 1, 7)`)
			test.options.UserID = "customer"
			watch(t, pool, "orders", test.options)
			if s, err := live.ReadStatus(t.Context(), pool); err != nil || len(s.Watches[0].Problems) > 0 {
				t.Errorf("status %+v, %v", s.Watches, err)
			}
			l := listen(t, pool)
			exec(t, pool, test.write...)
			l.wantTold(test.want...)
			exec(t, pool, `NOTIFY attune_live, 'the end'`)
			if got := l.raw(); got != "the end" {
				t.Errorf("told besides: %s", got)
			}
		})
	}
}

func TestWatch_Options(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE TABLE orders (no text NOT NULL, op text, n int)`)
	watch(t, pool, "public.orders", live.WatchOptions{
		EntityType: "Order.x", Key: "no", Old: []string{"n"}, On: []string{"n"},
		Created: "in", Changed: "in", Deleted: live.NoChannel,
	})
	l := listen(t, pool)
	exec(t, pool,
		`INSERT INTO orders VALUES ('A-1.b_2', 'mine', 1)`,
		`UPDATE orders SET op = 'x'`,
		`UPDATE orders SET n = 2`,
		`DELETE FROM orders`,
		`INSERT INTO orders VALUES ('007', NULL, NULL)`)
	l.wantTold(
		`in Order.x A-1.b_2 {"no":"A-1.b_2","op":"mine","n":1}`,
		`in Order.x A-1.b_2 {"no":"A-1.b_2","op":"x","n":2,"old_n":1}`,
		`in Order.x 007 {"no":"007","op":null,"n":null}`)
}

func TestWatch_Types(t *testing.T) {
	pool := installed(t)
	exec(t, pool,
		`CREATE TYPE mood AS ENUM ('so "so"', 'good')`,
		`CREATE TYPE pair AS (a int, b text)`,
		`CREATE DOMAIN amount AS int CHECK (value > 0)`,
		// A cast to JSON that would run as whoever owns the trigger function.
		`CREATE FUNCTION evil(mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil ran'; END $$`,
		`CREATE CAST (mood AS json) WITH FUNCTION evil(mood)`,
		`CREATE TABLE things (id uuid PRIMARY KEY, m mood, p pair, a amount, j json, b bytea, at timestamptz, l text[], ms mood[], f float8)`)
	watch(t, pool, "things", live.WatchOptions{})
	l := listen(t, pool)
	exec(t, pool,
		`SET TimeZone = 'Asia/Tokyo'; INSERT INTO things VALUES ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'so "so"', (1, 'x'), 5,
			E'{"a" :\n1e2, "a":2}', '\x00ff', '2026-03-03T04:05:06.5+09', '{a,NULL}', '{good}', 'NaN')`,
		`INSERT INTO things (id, p) VALUES ('6ba7b810-9dad-11d1-80b4-00c04fd430c9', (NULL, NULL))`)
	l.wantTold(
		`things_created things 6ba7b810-9dad-11d1-80b4-00c04fd430c8 {"op":"created","id":"6ba7b810-9dad-11d1-80b4-00c04fd430c8",`+
			`"m":"so \"so\"","p":"(1,x)","a":5,"j":{"a":1e2,"a":2},"b":"\\x00ff","at":"2026-03-02T19:05:06.5+00:00","l":["a",null],"ms":"{good}","f":"NaN"}`,
		`things_created things 6ba7b810-9dad-11d1-80b4-00c04fd430c9 {"op":"created","id":"6ba7b810-9dad-11d1-80b4-00c04fd430c9",`+
			`"m":null,"p":"(,)","a":null,"j":null,"b":null,"at":null,"l":null,"ms":null,"f":null}`)
}

// TestWatch_Settings: what is told, and what is read, does not depend on the session.
func TestWatch_Settings(t *testing.T) {
	pool := installed(t)
	exec(t, pool,
		`CREATE TYPE pair AS (a interval, b daterange)`,
		`CREATE TABLE things (id int PRIMARY KEY, i interval, r tstzrange, d daterange, f float8, fs float4[], b bytea, m money, c regclass, p pair)`)
	watch(t, pool, "things", live.WatchOptions{})
	l := listen(t, pool)
	exec(t, pool, `SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601'; SET extra_float_digits = -3;
		SET bytea_output = 'escape'; SET search_path = attune_live, public;
		INSERT INTO public.things VALUES (1, '1 day 02:00', '[2026-03-03T00:00Z,)', '[2026-03-03,2026-04-04)', 0.1::float8 + 0.2, '{0.1}', '\x00ff',
			2.5::numeric::money, 'attune_live.meta', (interval '3 hours', '[2026-03-03,2026-04-04)'))`)
	const payload = `"id":1,"i":"1 day 02:00:00","r":"[\"2026-03-03 00:00:00+00\",)","d":"[2026-03-03,2026-04-04)",` +
		`"f":0.30000000000000004,"fs":[0.1],"b":"\\x00ff","m":"$2.50","c":"attune_live.meta","p":"(03:00:00,\"[2026-03-03,2026-04-04)\")"}`
	l.wantTold(`things_created things 1 {"op":"created",` + payload)
	table, err := live.FindEntityTable(t.Context(), pool, "things")
	if err != nil {
		t.Fatal(err)
	}
	e, err := table.Read(t.Context(), pool, "1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff("{"+payload, string(e.Payload)); diff != "" {
		t.Errorf("read: -want +got:\n%s", diff)
	}
}

// TestWatch_Altered has the owner of a table that a superuser watches give a column a
// type with a cast of his own: nothing of his may run with the superuser's rights,
// neither in the trigger nor when rows are read.
func TestWatch_Altered(t *testing.T) {
	for name, column := range map[string]string{"Payload": "note", "Key": "id", "User": "customer"} {
		t.Run(name, func(t *testing.T) {
			pool := installed(t)
			exec(t, pool, `CREATE TABLE orders (id int PRIMARY KEY, note text, customer int)`)
			watch(t, pool, "orders", live.WatchOptions{UserID: "customer"})
			table, err := live.FindEntityTable(t.Context(), pool, "orders")
			if err != nil {
				t.Fatal(err)
			}
			exec(t, pool, `CREATE TYPE mood AS ENUM ('fine')`)
			for _, target := range []string{"json", "text", "bigint", "int"} {
				exec(t, pool, `CREATE FUNCTION evil_`+target+`(mood) RETURNS `+target+` LANGUAGE plpgsql COST 0.0001 AS $$
					BEGIN PERFORM nextval('evil'); RETURN '1'; END $$`,
					`CREATE CAST (mood AS `+target+`) WITH FUNCTION evil_`+target+` AS IMPLICIT`)
			}
			exec(t, pool, `CREATE SEQUENCE evil MINVALUE 0`, `ALTER TABLE orders DROP COLUMN `+column+` CASCADE`,
				`ALTER TABLE orders ADD COLUMN `+column+` mood NOT NULL DEFAULT 'fine'`)
			insert := `INSERT INTO orders DEFAULT VALUES`
			if column != "id" {
				insert = `INSERT INTO orders (id) VALUES (1)`
			}
			if warnings := warned(t, pool, insert); len(warnings) != 1 || !strings.Contains(warnings[0], "watch it again") {
				t.Errorf("warnings: %q", warnings)
			}
			if n := losses(t, pool); n != 1 {
				t.Errorf("%d losses, want 1", n)
			}
			if _, err := table.Read(t.Context(), pool, "1"); !live.IsOutdated(err) {
				t.Errorf("a row is read: %v", err)
			}
			if _, err := table.List(t.Context(), pool, 10, new(int64(1))); !live.IsOutdated(err) {
				t.Errorf("rows are listed: %v", err)
			}
			if queryOne[bool](t, pool, `SELECT is_called FROM evil`) {
				t.Error("evil ran")
			}
		})
	}
}

// hostile are names that would end a quote of any kind, or be taken for something else.
func hostile() []string {
	return []string{
		`Weird "Name"`, `x'; DROP TABLE victim; --`, `x"; DROP TABLE victim; --`, `$attune0$; DROP TABLE victim; $attune0$`,
		`back\slash\'`, `{{.Digest}}`, "new\nline", `$1`, `%s`, `sélect`, `NEW`, `body`, `key`, `*/ x /*`,
	}
}

func TestWatch_HostileNames(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE TABLE victim (id int)`, `ALTER DATABASE `+pool.Config().ConnConfig.Database+` SET standard_conforming_strings = off`)
	pool.Reset()
	l := listen(t, pool)
	for i, name := range hostile() {
		table := pgx.Identifier{name, name}.Sanitize()
		column := pgx.Identifier{name}.Sanitize()
		channel := strings.ReplaceAll(name, "\n", " ")
		exec(t, pool, `CREATE SCHEMA `+column, `CREATE TABLE `+table+` (`+column+` int PRIMARY KEY)`)
		watch(t, pool, table, live.WatchOptions{
			EntityType: "odd", UserID: name, Columns: []string{name}, Old: []string{name}, Created: channel,
		})
		exec(t, pool, fmt.Sprintf(`INSERT INTO %s VALUES (%d)`, table, i))
		member, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		l.wantTold(fmt.Sprintf(`%s odd %d user %d {"op":"created",%s:%d}`, channel, i, i, member, i))
		exec(t, pool, fmt.Sprintf(`UPDATE %s SET %s = -1`, table, column))
		l.wantTold(
			fmt.Sprintf(`odd_deleted odd %d user %d {"op":"deleted",%s:%d}`, i, i, member, i),
			fmt.Sprintf(`%s odd -1 user -1 {"op":"created",%s:-1}`, channel, member))
		found, err := live.FindEntityTable(t.Context(), pool, "odd")
		if err != nil {
			t.Fatal(err)
		}
		row, err := found.Read(t.Context(), pool, "-1")
		if want := fmt.Sprintf(`{%s:-1}`, member); err != nil || string(row.Payload) != want {
			t.Errorf("%s: read %s, %v, want %s", name, row.Payload, err, want)
		}
		status, err := live.ReadStatus(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		if len(status.Watches) != 1 || status.Watches[0].Table != table || len(status.Watches[0].Problems) > 0 {
			t.Errorf("%s: status %+v", table, status.Watches)
		}
		if err := live.Unwatch(t.Context(), pool, table); err != nil {
			t.Error(err)
		}
	}
	if n := losses(t, pool); n != 0 {
		t.Errorf("%d losses", n)
	}
	exec(t, pool, `SELECT FROM victim`)
	if left, err := live.Uninstall(t.Context(), pool); err != nil || len(left) > 0 {
		t.Errorf("uninstall: %v, left: %v", err, left)
	}
}

func TestWatch_WideTable(t *testing.T) {
	pool := installed(t)
	var columns, want strings.Builder
	for i := range 250 {
		fmt.Fprintf(&columns, `, c%d int DEFAULT %d`, i, i)
		fmt.Fprintf(&want, `,"c%d":%d`, i, i)
	}
	exec(t, pool, `CREATE TABLE wide (id bigint PRIMARY KEY`+columns.String()+`)`)
	watch(t, pool, "wide", live.WatchOptions{})
	l := listen(t, pool)
	exec(t, pool, `INSERT INTO wide VALUES (-1)`)
	l.wantTold(`wide_created wide -1 {"op":"created","id":-1` + want.String() + `}`)
}

func TestWatch_Partitioned(t *testing.T) {
	pool := installed(t)
	exec(t, pool,
		`CREATE TABLE orders (id int PRIMARY KEY, n int) PARTITION BY RANGE (id)`,
		`CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (10)`)
	watch(t, pool, "orders", live.WatchOptions{})
	l := listen(t, pool)
	exec(t, pool,
		`CREATE TABLE orders_2 (n int, gone int, id int NOT NULL)`,
		`ALTER TABLE orders_2 DROP COLUMN gone`,
		`ALTER TABLE orders ATTACH PARTITION orders_2 FOR VALUES FROM (10) TO (20)`,
		`INSERT INTO orders VALUES (1, 1)`,
		`INSERT INTO orders_2 (id, n) VALUES (12, 2)`,
		`UPDATE orders SET n = n + 1 WHERE id = 12`,
		`UPDATE orders SET id = 13 WHERE id = 1`)
	l.wantTold(
		`orders_created orders 1 {"op":"created","id":1,"n":1}`,
		`orders_created orders 12 {"op":"created","id":12,"n":2}`,
		`orders_changed orders 12 {"op":"changed","id":12,"n":3}`,
		`orders_deleted orders 1 {"op":"deleted","id":1,"n":1}`,
		`orders_created orders 13 {"op":"created","id":13,"n":1}`)
	if err := live.Watch(t.Context(), pool, "orders_1", live.WatchOptions{}); err == nil || !strings.Contains(err.Error(), "partition") {
		t.Errorf("watch a partition: %v", err)
	}
	// Watched again, the partition that has come since is known, too.
	watch(t, pool, "orders", live.WatchOptions{})
	exec(t, pool, `TRUNCATE orders_1`, `TRUNCATE orders_2`, `TRUNCATE orders`)
	if n := losses(t, pool); n < 3 {
		t.Errorf("%d losses, want one for each table that was emptied", n)
	}
	if err := live.Unwatch(t.Context(), pool, "orders"); err != nil {
		t.Error(err)
	}
	if n := queryOne[int](t, pool, `SELECT count(*)::int FROM pg_trigger WHERE tgname LIKE '%attune%'`); n != 0 {
		t.Errorf("%d triggers are left", n)
	}
}

func TestWatch_Refused(t *testing.T) {
	pool := installed(t)
	exec(t, pool,
		`CREATE TABLE good (id int PRIMARY KEY, user_name text, maybe int, f numeric NOT NULL)`,
		`CREATE TABLE keyless (id int)`,
		`CREATE TABLE two (a int, b int, PRIMARY KEY (a, b))`,
		`CREATE TABLE dates (d date PRIMARY KEY)`,
		`CREATE TABLE "two words" (id int PRIMARY KEY)`,
		`CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)`,
		`CREATE VIEW seen AS SELECT * FROM good`)
	for _, test := range []struct {
		table, want string
		options     live.WatchOptions
	}{
		{"missing", "no such table", live.WatchOptions{}},
		{`a.b.c.d`, "improper", live.WatchOptions{}},
		{"seen", "view", live.WatchOptions{}},
		{"good_pkey", "not a table", live.WatchOptions{}},
		{"attune_live.outbox", "attune_live", live.WatchOptions{}},
		{"pg_class", "pg_catalog", live.WatchOptions{}},
		{"keyless", "no primary key", live.WatchOptions{}},
		{"two", "2 columns (a, b)", live.WatchOptions{}},
		{"dates", "type date: want an integer", live.WatchOptions{}},
		{"good", "type numeric: want an integer", live.WatchOptions{Key: "f"}},
		{"good", "may be null", live.WatchOptions{Key: "maybe"}},
		{"good", `no column "nix": it has id, user_name`, live.WatchOptions{Columns: []string{"nix"}}},
		{"good", `no column "nix"`, live.WatchOptions{On: []string{"nix"}}},
		{"good", `no column "nix"`, live.WatchOptions{Old: []string{"nix"}}},
		{"good", `no column "nix"`, live.WatchOptions{Key: "nix"}},
		{"good", "type text: want smallint", live.WatchOptions{UserID: "user_name"}},
		{"good", "entity type", live.WatchOptions{EntityType: "a b"}},
		{"two words", "invalid name", live.WatchOptions{}},
		{`"two words"`, `entity type "two words"`, live.WatchOptions{}},
		{"good", "1 to 63 bytes", live.WatchOptions{Changed: strings.Repeat("x", 64)}},
		{"good", "left out", live.WatchOptions{Created: "-", Changed: "-", Deleted: "-"}},
		{"parts", "moves to another partition", live.WatchOptions{Created: "-"}},
	} {
		err := live.Watch(t.Context(), pool, test.table, test.options)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "watch "+test.table+": ") {
			t.Errorf("%s %+v: %v, want %q", test.table, test.options, err, test.want)
		}
	}
	if err := live.Watch(t.Context(), fresh(t), "t", live.WatchOptions{}); !errors.Is(err, live.ErrNotInstalled) {
		t.Errorf("not installed: %v", err)
	}
}

// TestWatch_Again takes the triggers' oids for whether anything was done.
func TestWatch_Again(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE TABLE orders (id int PRIMARY KEY, a int, b int)`)
	triggers := func() string {
		t.Helper()
		return queryOne[string](t, pool, `SELECT coalesce(string_agg(oid || ' ' || tgname, ',' ORDER BY tgname), '')
			FROM pg_trigger WHERE tgrelid = 'orders'::regclass`)
	}
	watch(t, pool, "orders", live.WatchOptions{Columns: []string{"a"}})
	before := triggers()
	watch(t, pool, "orders", live.WatchOptions{Columns: []string{"a"}})
	if after := triggers(); after != before {
		t.Errorf("triggers %s became %s", before, after)
	}
	if script, err := live.WatchSQL(t.Context(), pool, "orders", live.WatchOptions{Columns: []string{"a"}}); err != nil || script != "" {
		t.Errorf("there is something to do: %v\n%s", err, script)
	}

	watch(t, pool, "orders", live.WatchOptions{Columns: []string{"b"}, Deleted: live.NoChannel})
	l := listen(t, pool)
	exec(t, pool, `INSERT INTO orders VALUES (1, 2, 3)`, `UPDATE orders SET a = 5`, `DELETE FROM orders`, `INSERT INTO orders VALUES (2)`)
	l.wantTold(`orders_created orders 1 {"op":"created","id":1,"b":3}`, `orders_created orders 2 {"op":"created","id":2,"b":null}`)

	// A trigger that was disabled, or dropped, is put right.
	for _, harm := range []string{
		`ALTER TABLE orders DISABLE TRIGGER zz_attune_live_created`,
		`DROP TRIGGER zz_attune_live_changed ON orders`,
		`DROP TRIGGER zz_attune_live_truncated ON orders`,
	} {
		exec(t, pool, harm)
		if s, err := live.ReadStatus(t.Context(), pool); err != nil || len(s.Watches) != 1 || len(s.Watches[0].Problems) != 1 {
			t.Errorf("%s: status %+v, %v", harm, s.Watches, err)
		}
		watch(t, pool, "orders", live.WatchOptions{Columns: []string{"b"}, Deleted: live.NoChannel})
		if s, err := live.ReadStatus(t.Context(), pool); err != nil || len(s.Watches[0].Problems) != 0 {
			t.Errorf("%s: status %+v, %v", harm, s.Watches, err)
		}
	}
}

// TestWatch_Differences updates columns whose types have an idea of their own of what
// is equal: what reads differently must be told.
func TestWatch_Differences(t *testing.T) {
	pool := installed(t)
	exec(t, pool,
		`CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
		`CREATE TABLE things (id int PRIMARY KEY, n numeric, j json, f float8, c text COLLATE blind, t text)`,
		`INSERT INTO things VALUES (1, 1.0, '{"a":1}', 0, 'a', NULL)`)
	watch(t, pool, "things", live.WatchOptions{Columns: []string{"n", "j", "f", "c", "t"}})
	l := listen(t, pool)
	exec(t, pool,
		`UPDATE things SET n = 1.0, j = '{"a":1}', f = 0, c = 'a', t = NULL`, // no difference
		`UPDATE things SET n = 1.00`,
		`UPDATE things SET j = '{"a": 1}'`,
		`UPDATE things SET f = '-0'`,
		`UPDATE things SET c = 'A'`,
		`UPDATE things SET t = ''`,
		`UPDATE things SET t = NULL`)
	for _, want := range []string{
		`"n":1.00,"j":{"a":1},"f":0,"c":"a","t":null}`,
		`"n":1.00,"j":{"a":1},"f":0,"c":"a","t":null}`, // white space between tokens does not travel
		`"n":1.00,"j":{"a":1},"f":-0,"c":"a","t":null}`,
		`"n":1.00,"j":{"a":1},"f":-0,"c":"A","t":null}`,
		`"n":1.00,"j":{"a":1},"f":-0,"c":"A","t":""}`,
		`"n":1.00,"j":{"a":1},"f":-0,"c":"A","t":null}`,
	} {
		l.wantTold(`things_changed things 1 {"op":"changed","id":1,` + want)
	}
}
