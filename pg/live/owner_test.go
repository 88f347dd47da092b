package live_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/pg/live"
)

// owner returns a pool for a role that may create in the database and owns a table
// orders, and nothing more.
func owner(t *testing.T, admin *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	role := newRole(t, admin, "owner")
	exec(t, admin,
		`GRANT CREATE ON DATABASE `+admin.Config().ConnConfig.Database+` TO `+role,
		`CREATE TABLE orders (id int PRIMARY KEY, status text)`,
		`ALTER TABLE orders OWNER TO `+role)
	return as(t, admin, role)
}

// TestOwner_IsEnough goes all the way without a superuser.
func TestOwner_IsEnough(t *testing.T) {
	admin := fresh(t)
	pool := owner(t, admin)
	before := everything(t, admin)
	for range 2 {
		if err := live.Install(t.Context(), pool); err != nil {
			t.Fatal(err)
		}
		watch(t, pool, "orders", live.WatchOptions{})
	}
	exec(t, pool, `INSERT INTO orders VALUES (1, 'new')`, `UPDATE orders SET status = 'sent'`, `DELETE FROM orders`)
	rows, err := pool.Query(t.Context(), `SELECT channel || ' ' || entity_id || ' ' || payload FROM attune_live.notification_log ORDER BY seq`)
	if err != nil {
		t.Fatal(err)
	}
	logged, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`orders_created 1 {"op" : "created", "id" : 1, "status" : "new"}`,
		`orders_changed 1 {"op" : "changed", "id" : 1, "status" : "sent"}`,
		`orders_deleted 1 {"op" : "deleted", "id" : 1, "status" : "sent"}`,
	}
	if diff := cmp.Diff(want, logged); diff != "" {
		t.Errorf("logged (-want +got):\n%s", diff)
	}
	s, err := live.ReadStatus(t.Context(), pool)
	if err != nil || s.NewestSeq != 3 || s.Losses != 0 || len(s.Watches) != 1 || len(s.Watches[0].Problems) > 0 {
		t.Errorf("status %+v, %v", s, err)
	}
	if err := live.Unwatch(t.Context(), pool, "orders"); err != nil {
		t.Fatal(err)
	}
	if left, err := live.Uninstall(t.Context(), pool); err != nil || len(left) > 0 {
		t.Fatalf("left: %v, %v", left, err)
	}
	if diff := cmp.Diff(before, everything(t, admin)); diff != "" {
		t.Errorf("a trace is left (-before +after):\n%s", diff)
	}
}

// TestInstall_Squatted: a role made what attune would make, before it, with a trigger
// that would give the role the rights of whoever installs.
func TestInstall_Squatted(t *testing.T) {
	admin := fresh(t)
	role := newRole(t, admin, "squatter")
	exec(t, admin, `GRANT CREATE ON DATABASE `+admin.Config().ConnConfig.Database+` TO `+role)
	exec(t, as(t, admin, role),
		`CREATE SCHEMA attune_live`,
		`GRANT ALL ON SCHEMA attune_live TO PUBLIC`,
		`CREATE TABLE attune_live.meta (only_row boolean PRIMARY KEY DEFAULT true, log_id text, schema_version int, pruned_seq bigint DEFAULT 0)`,
		`CREATE TABLE attune_live.watch (relation regclass PRIMARY KEY)`,
		`CREATE FUNCTION attune_live.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ALTER ROLE `+role+` SUPERUSER; RETURN NEW; END $$`,
		`CREATE TRIGGER trap BEFORE INSERT ON attune_live.meta FOR EACH ROW EXECUTE FUNCTION attune_live.trap()`)
	exec(t, admin, `CREATE TABLE orders (id int PRIMARY KEY)`)
	before := everything(t, admin)
	_, byHand := admin.Exec(t.Context(), live.InstallSQL())
	for name, err := range map[string]error{
		"install": live.Install(t.Context(), admin),
		"by hand": byHand,
		"watch":   live.Watch(t.Context(), admin, "orders", live.WatchOptions{}),
		"unwatch": live.Unwatch(t.Context(), admin, "orders"),
	} {
		if err == nil || !strings.Contains(err.Error(), "the schema attune_live belongs to the role "+role) ||
			!strings.Contains(err.Error(), "connect as "+role) {
			t.Errorf("%s: %v, want that the schema belongs to %s", name, err, role)
		}
	}
	if queryOne[bool](t, admin, `SELECT rolsuper FROM pg_roles WHERE rolname = $1`, role) {
		t.Error("the squatter is a superuser")
	}
	if diff := cmp.Diff(before, everything(t, admin)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}

// TestInstall_ForeignObject: the schema is ours, something in it is not. What is asked
// for is all that an installation has, so that nothing is forgotten that comes later.
func TestInstall_ForeignObject(t *testing.T) {
	admin := installed(t)
	role := newRole(t, admin, "stranger")
	exec(t, admin, `GRANT ALL ON SCHEMA attune_live TO `+role)
	me := queryOne[string](t, admin, `SELECT current_user::text`)
	objects := queryOne[[]string](t, admin, `
		SELECT array_agg(o ORDER BY o) FROM (
			SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || c.oid::regclass AS o FROM pg_class c
			WHERE relnamespace = 'attune_live'::regnamespace AND (relkind = 'r' OR relkind = 'S' AND NOT EXISTS (
				SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i'))
			UNION ALL SELECT 'FUNCTION ' || oid::regprocedure FROM pg_proc WHERE pronamespace = 'attune_live'::regnamespace
		) objects`)
	if len(objects) < 13 {
		t.Fatalf("an installation has only %q", objects)
	}
	for _, object := range objects {
		exec(t, admin, `ALTER `+object+` OWNER TO `+role)
		if err := live.Install(t.Context(), admin); err == nil || !strings.Contains(err.Error(), "belongs to the role "+role) {
			t.Errorf("%s: %v, want that it belongs to %s", object, err, role)
		}
		exec(t, admin, `ALTER `+object+` OWNER TO `+me)
	}
	if err := live.Install(t.Context(), admin); err != nil {
		t.Error(err)
	}
}

// TestInstall_SchemaGranted: the right to create in somebody's schema is not enough,
// for what installs there could not uninstall; to be a member of its owner is.
func TestInstall_SchemaGranted(t *testing.T) {
	admin := fresh(t)
	pool := owner(t, admin)
	role, other := pool.Config().ConnConfig.User, newRole(t, admin, "other")
	exec(t, admin, `CREATE SCHEMA attune_live AUTHORIZATION `+other, `GRANT ALL ON SCHEMA attune_live TO `+role)
	err := live.Install(t.Context(), pool)
	if err == nil || !strings.Contains(err.Error(), "belongs to the role "+other) ||
		!strings.Contains(err.Error(), "ALTER SCHEMA attune_live OWNER TO "+role) {
		t.Errorf("%v, want that the schema belongs to %s, and what to do", err, other)
	}
	exec(t, admin, `GRANT `+other+` TO `+role)
	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	watch(t, pool, "orders", live.WatchOptions{})

	// One that was made before this was so can be taken back, but for the schema.
	exec(t, admin, `REVOKE `+other+` FROM `+role)
	for range 2 {
		left, err := live.Uninstall(t.Context(), pool)
		if diff := cmp.Diff([]live.Leftover{{Kind: "schema", Name: live.Schema}}, left); diff != "" || err != nil {
			t.Errorf("left (-want +got):\n%s%v", diff, err)
		}
	}
	exec(t, admin, `DROP SCHEMA attune_live`) // it is empty
}

// TestWatch_NotTheOwner: the privilege TRIGGER makes triggers, but only the table's owner
// takes them away again.
func TestWatch_NotTheOwner(t *testing.T) {
	admin := fresh(t)
	pool := owner(t, admin)
	role, other := pool.Config().ConnConfig.User, newRole(t, admin, "other")
	if err := live.Install(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	exec(t, admin, `ALTER TABLE orders OWNER TO `+other, `GRANT TRIGGER ON orders TO `+role)
	before := everything(t, admin)
	err := live.Watch(t.Context(), pool, "orders", live.WatchOptions{})
	if err == nil || !strings.Contains(err.Error(), "it belongs to the role "+other) {
		t.Errorf("%v, want that the table belongs to %s", err, other)
	}
	if diff := cmp.Diff(before, everything(t, admin)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	exec(t, admin, `GRANT `+other+` TO `+role)
	watch(t, pool, "orders", live.WatchOptions{})
	watch(t, pool, "orders", live.WatchOptions{Columns: []string{"status"}})
	if err := live.Unwatch(t.Context(), pool, "orders"); err != nil {
		t.Error(err)
	}
}
