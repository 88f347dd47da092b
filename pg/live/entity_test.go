package live_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"attune/pg/live"
	"attune/wire"
)

// A row as it is read has what its notifications have, token by token, whatever the
// types of its columns.
func TestEntityTable_Read_AsNotified(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE TYPE mood AS ENUM ('sad', 'it''s fine')`, `CREATE DOMAIN cents AS bigint`,
		`CREATE TYPE pair AS (a int, b text)`,
		`CREATE SCHEMA "odd ""one"`,
		`CREATE TABLE "odd ""one"."the 'table'" (
			"the ""key" uuid PRIMARY KEY, owner int, "e" int, price numeric(10,2), c cents, m mood, at timestamptz, span tstzrange,
			doc jsonb, raw json, flag boolean, list text[], p pair, "a\b" text, nothing text)`)
	table := `"odd ""one"."the 'table'"`
	if err := live.Watch(t.Context(), pool, table, live.WatchOptions{EntityType: "thing", UserID: "owner"}); err != nil {
		t.Fatal(err)
	}
	l := listen(t, pool)
	const key = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
	exec(t, pool, `INSERT INTO `+table+` VALUES ('`+key+`', 7, 1, 10.50, 3, 'it''s fine', '2026-03-03 20:42:41.5+01', '[2026-03-03 20:42+01,)',
		'{"n": 1.50, "s": "<é>"}', '{"n" : 1.50, "n" : 2}', true, '{a,NULL}', '(1,x)', 'back\slash', NULL)`)
	told := *l.next().Notification

	found, err := live.FindEntityTable(t.Context(), pool, "thing")
	if err != nil {
		t.Fatal(err)
	}
	got, err := found.Read(t.Context(), pool, key)
	if err != nil {
		t.Fatal(err)
	}
	want := wire.Entity{
		EntityType: "thing", EntityID: told.EntityID, UserID: told.UserID,
		Payload: []byte(strings.Replace(string(told.Payload), `"op":"created",`, "", 1)),
	}
	if string(want.Payload) == string(told.Payload) {
		t.Errorf("no op in %s", told.Payload)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(wire.EntityID{})); diff != "" {
		t.Errorf("(-notified +read):\n%s", diff)
	}
	readMany(t, pool, found, key)
}

// A wide table's payload is put together from parts.
func TestEntityTable_Read_Wide(t *testing.T) {
	pool := installed(t)
	var columns []string
	for i := range 120 {
		columns = append(columns, fmt.Sprintf("c%d int DEFAULT %d", i, i))
	}
	exec(t, pool, `CREATE TABLE wide (id bigint PRIMARY KEY, `+strings.Join(columns, ", ")+`)`, `INSERT INTO wide VALUES (1)`)
	if err := live.Watch(t.Context(), pool, "wide", live.WatchOptions{}); err != nil {
		t.Fatal(err)
	}
	found, err := live.FindEntityTable(t.Context(), pool, "wide")
	if err != nil {
		t.Fatal(err)
	}
	got, err := found.Read(t.Context(), pool, "1")
	if members, bad := wire.Object(got.Payload); err != nil || bad != nil || len(members) != 121 || string(members["c119"]) != "119" {
		t.Errorf("%v, %v, %s", err, bad, got.Payload)
	}
}

// countedDB counts transactions.
type countedDB struct {
	live.DB

	begun int
}

func (c *countedDB) Begin(ctx context.Context) (pgx.Tx, error) {
	c.begun++
	return c.DB.Begin(ctx)
}

// readMany reads rows, which it checks is one transaction, and the same as reading each.
func readMany(t *testing.T, db live.DB, table *live.EntityTable, ids ...string) {
	t.Helper()
	want := make(map[string]wire.Entity, len(ids))
	for _, id := range ids {
		var err error
		if want[id], err = table.Read(t.Context(), db, id); err != nil {
			t.Errorf("read %s: %v", id, err)
		}
	}
	counted := &countedDB{DB: db}
	got, err := table.ReadMany(t.Context(), counted, ids)
	if err != nil || counted.begun != 1 {
		t.Errorf("read %q together: %v, %d transactions", ids, err, counted.begun)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(wire.EntityID{})); diff != "" {
		t.Errorf("(-one by one +together):\n%s", diff)
	}
}

// An id finds the row whose notifications have it, and no other.
func TestEntityTable_Read_IDs(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE DOMAIN domain_int AS int`, `CREATE DOMAIN domain_uuid AS uuid`, `CREATE DOMAIN domain_text AS text`)
	for keyType, tt := range map[string]struct{ stored, others string }{
		"smallint":     {"42", "042 4.2 42.0 abc 99999 9223372036854775808 - 42e0"},
		"int":          {"-42", "-042 42 2147483648"},
		"bigint":       {"9223372036854775807", "9223372036854775808 09223372036854775807 1e3"},
		"uuid":         {"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11 a0eebc999c0b4ef8bb6d6bb9bd380a11 42 a0eebc99"},
		"text":         {"Order-1.b_", "order-1.b_ Order-1 .. 42"},
		"domain_int":   {"42", "042 abc 2147483648 9223372036854775808"},
		"domain_uuid":  {"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "42 a0eebc999c0b4ef8bb6d6bb9bd380a11"},
		"domain_text":  {"abc", "ABC 42"},
		"varchar(200)": {strings.Repeat("x", 128), strings.Repeat("x", 127)},
	} {
		t.Run(keyType, func(t *testing.T) {
			name := "t_" + strings.Trim(strings.ReplaceAll(keyType, "(200)", ""), " ")
			exec(t, pool, `CREATE TABLE `+name+` (id `+keyType+` PRIMARY KEY)`, `INSERT INTO `+name+` VALUES ('`+tt.stored+`')`)
			if err := live.Watch(t.Context(), pool, name, live.WatchOptions{}); err != nil {
				t.Fatal(err)
			}
			table, err := live.FindEntityTable(t.Context(), pool, name)
			if err != nil {
				t.Fatal(err)
			}
			if e, err := table.Read(t.Context(), pool, tt.stored); err != nil || e.Payload == nil || e.EntityID.String() != tt.stored {
				t.Errorf("read %s: %v, %+v", tt.stored, err, e)
			}
			for id := range strings.FieldsSeq(tt.others) {
				if e, err := table.Read(t.Context(), pool, id); err != nil || e.Payload != nil {
					t.Errorf("read %s: %v, %+v; want no row", id, err, e)
				}
			}
			readMany(t, pool, table, append(strings.Fields(tt.others), tt.stored)...)
		})
	}
}

// A row that can not be told keeps no other out: it is left out, and Read says why.
func TestEntityTable_ReadMany_Untold(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE TABLE deep (id int PRIMARY KEY, doc json)`,
		`INSERT INTO deep VALUES (1, '1'), (2, (repeat('[', 10001) || repeat(']', 10001))::json)`)
	if err := live.Watch(t.Context(), pool, "deep", live.WatchOptions{}); err != nil {
		t.Fatal(err)
	}
	table, err := live.FindEntityTable(t.Context(), pool, "deep")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := table.Read(t.Context(), pool, "2"); err == nil {
		t.Errorf("read %+v", e)
	}
	got, err := table.ReadMany(t.Context(), pool, []string{"1", "2", "3"})
	_, untold := got["2"]
	_, none := got["3"]
	if err != nil || string(got["1"].Payload) != `{"id":1,"doc":1}` || untold || !none {
		t.Errorf("%v, %+v", err, got)
	}
}

// The rows that are read are those that are told: of partitions, not of heirs.
func TestEntityTable_Read_Relations(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id)`,
		`CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100)`, `INSERT INTO parted VALUES (1)`,
		`CREATE TABLE old (id int PRIMARY KEY)`, `CREATE TABLE heir () INHERITS (old)`, `INSERT INTO heir VALUES (1)`)
	for name, want := range map[string]bool{"parted": true, "old": false} {
		if err := live.Watch(t.Context(), pool, name, live.WatchOptions{}); err != nil {
			t.Fatal(err)
		}
		table, err := live.FindEntityTable(t.Context(), pool, name)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := table.Read(t.Context(), pool, "1"); err != nil || (e.Payload != nil) != want {
			t.Errorf("%s: %v, %+v", name, err, e)
		}
		readMany(t, pool, table, "1", "2")
	}
}

func TestFindEntityTable_Refused(t *testing.T) {
	bare := fresh(t)
	pool := installed(t)
	exec(t, pool, `CREATE SCHEMA other`, `CREATE TABLE twice (id int PRIMARY KEY)`, `CREATE TABLE other.twice (id int PRIMARY KEY)`,
		`CREATE TABLE gone (id int PRIMARY KEY)`, `CREATE TABLE less (id int PRIMARY KEY, total int)`)
	for _, table := range []string{"twice", "other.twice", "gone", "less"} {
		if err := live.Watch(t.Context(), pool, table, live.WatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, pool, `DROP TABLE gone`, `ALTER TABLE less DROP COLUMN total CASCADE`)
	for entityType, says := range map[string]string{
		"nothing": "attune db watch", "twice": `"other"."twice" and "public"."twice"`, "gone": "was dropped", "less": `no column "total"`,
	} {
		_, err := live.FindEntityTable(t.Context(), pool, entityType)
		if why, ok := errors.AsType[*live.EntityError](err); !ok || !strings.Contains(why.Reason, says) {
			t.Errorf("%s: %v, want %q", entityType, err, says)
		}
	}
	_, err := live.FindEntityTable(t.Context(), bare, "orders")
	if why, ok := errors.AsType[*live.EntityError](err); !ok || !strings.Contains(why.Reason, "attune db install") {
		t.Errorf("not installed: %v", err)
	}
	exec(t, pool, `CREATE TABLE gone (id int PRIMARY KEY)`)
	if err := live.Watch(t.Context(), pool, "gone", live.WatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := live.FindEntityTable(t.Context(), pool, "gone"); err != nil {
		t.Errorf("made anew: %v", err)
	}
}

// No function of somebody else's runs when a row is read, and nothing is written.
func TestEntityTable_Read_SearchPath(t *testing.T) {
	pool := installed(t)
	exec(t, pool, `CREATE TYPE mood AS ENUM ('fine')`, `CREATE TABLE orders (id int PRIMARY KEY, m mood)`, `INSERT INTO orders VALUES (1, 'fine')`,
		`CREATE FUNCTION public.format(text, mood) RETURNS text LANGUAGE sql AS $$ SELECT 'taken' $$`)
	if err := live.Watch(t.Context(), pool, "orders", live.WatchOptions{}); err != nil {
		t.Fatal(err)
	}
	table, err := live.FindEntityTable(t.Context(), pool, "orders")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if e, err := table.Read(t.Context(), pool, "1"); err != nil || string(e.Payload) != `{"id":1,"m":"fine"}` {
			t.Errorf("%v, %s", err, e.Payload)
		}
		readMany(t, pool, table, "1", "2")
	}
}
