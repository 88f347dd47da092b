package pg_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"attune/pg"
	"attune/pg/live"
	"attune/pg/pgtest"
	"attune/wire"
)

func execAll(t *testing.T, pool *pgxpool.Pool, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func watch(t *testing.T, pool *pgxpool.Pool, table string, o live.WatchOptions) {
	t.Helper()
	if err := live.Watch(t.Context(), pool, table, o); err != nil {
		t.Fatal(err)
	}
}

// Whatever becomes of the table, what is answered is how it is now, or why it cannot
// be read.
func TestEntities_Get(t *testing.T) {
	pool := connect(t, pgtest.Database(t))
	entities := pg.NewEntities(pool)
	row := func(id, payload string) {
		t.Helper()
		e, err := entities.Get(t.Context(), "orders", id)
		if err != nil || string(e.Payload) != payload || e.EntityType != "orders" || e.EntityID.String() != id {
			t.Errorf("orders %s: %v, %+v %s, want %s", id, err, e, e.Payload, payload)
		}
		many, err := entities.GetMany(t.Context(), "orders", []string{id, "none"})
		if e, none := many[id], many["none"]; err != nil || len(many) != 2 || string(e.Payload) != payload || e.EntityID.String() != id || none.Payload != nil {
			t.Errorf("orders %s with another: %v, %+v, want %s", id, err, many, payload)
		}
	}
	refused := func(code wire.Code, says string) {
		t.Helper()
		_, err := entities.Get(t.Context(), "orders", "42")
		_, errMany := entities.GetMany(t.Context(), "orders", []string{"42"})
		for _, err := range []error{err, errMany} {
			if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != code || !strings.Contains(e.Message, says) {
				t.Errorf("%v, want %s with %q", err, code, says)
			}
		}
	}

	refused(wire.CodeNotFound, "attune db install")
	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	refused(wire.CodeNotFound, "is not watched")
	execAll(t, pool, `CREATE TABLE orders (id int PRIMARY KEY, status text, total numeric(10,2), who bigint)`,
		`INSERT INTO orders VALUES (42, 'paid', 10.5, 7)`)
	watch(t, pool, "orders", live.WatchOptions{Columns: []string{"status", "total"}, UserID: "who"})
	row("42", `{"id":42,"status":"paid","total":10.50}`)
	row("43", "")
	row("abc", "")
	if e, _ := entities.Get(t.Context(), "orders", "42"); e.UserID == nil || *e.UserID != 7 {
		t.Errorf("user %v", e.UserID)
	}

	execAll(t, pool, `UPDATE orders SET status = 'shipped'`)
	row("42", `{"id":42,"status":"shipped","total":10.50}`)
	execAll(t, pool, `ALTER TABLE orders RENAME TO orders_2026`)
	row("42", `{"id":42,"status":"shipped","total":10.50}`)
	execAll(t, pool, `ALTER TABLE orders_2026 RENAME COLUMN status TO state`)
	refused(wire.CodeNotFound, `no column "status"`)
	watch(t, pool, "orders_2026", live.WatchOptions{EntityType: "orders"})
	row("42", `{"id":42,"state":"shipped","total":10.50,"who":7}`)
	execAll(t, pool, `DROP TABLE orders_2026`)
	refused(wire.CodeNotFound, "was dropped")
	execAll(t, pool, `CREATE TABLE orders (id text PRIMARY KEY)`, `INSERT INTO orders VALUES ('abc')`)
	watch(t, pool, "orders", live.WatchOptions{})
	row("abc", `{"id":"abc"}`)
	if err := live.Unwatch(t.Context(), pool, "orders"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is no longer watched", func() bool {
		_, err := entities.Get(t.Context(), "orders", "abc")
		return err != nil
	})
}

// The server's role may be one that may not read the table.
func TestEntities_Get_Forbidden(t *testing.T) {
	address := pgtest.Database(t)
	owner := connect(t, address)
	if err := live.Install(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	execAll(t, owner, `CREATE TABLE orders (id int PRIMARY KEY)`, `CREATE ROLE entity_reader LOGIN`,
		`GRANT USAGE ON SCHEMA attune_live TO entity_reader`, `GRANT SELECT ON attune_live.watch TO entity_reader`)
	t.Cleanup(func() {
		_, _ = owner.Exec(context.WithoutCancel(t.Context()), `DROP OWNED BY entity_reader; DROP ROLE entity_reader`)
	})
	watch(t, owner, "orders", live.WatchOptions{})
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("options", "-c role=entity_reader")
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	_, err = pg.NewEntities(connect(t, u.String())).Get(t.Context(), "orders", "1")
	if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != wire.CodeForbidden || !strings.Contains(e.Message, "GRANT SELECT") {
		t.Errorf("%v, want forbidden", err)
	}
}
