package doctor_test

import (
	"testing"

	"attune/pg/doctor"
	"attune/pg/pgtest"
)

func TestExamine_Pooler(t *testing.T) {
	direct := database(t, platform)
	pooled := pgtest.PgBouncer(t, direct)

	t.Run("InTheWay", func(t *testing.T) {
		report := examine(t, config(pooled))
		want(t, report, "reachable", doctor.OK)
		want(t, report, "pooler", doctor.Note, "before the database")
		want(t, report, "listen", doctor.Problem, "LISTEN was accepted", "pooler in transaction mode", "ATTUNE_LISTEN_URL")
	})
	t.Run("WritersOnly", func(t *testing.T) {
		cfg := config(pooled)
		cfg.ListenURL = direct
		report := examine(t, cfg)
		want(t, report, "pooler", doctor.OK, "as it should be")
		want(t, report, "listen", doctor.OK, "came back")
		want(t, report, "triggers", doctor.OK, "3 triggers")
		wantNothingToDo(t, report)
	})
	t.Run("ListenURL", func(t *testing.T) {
		cfg := config(direct)
		cfg.ListenURL = pooled
		report := examine(t, cfg)
		want(t, report, "pooler", doctor.Note, "the URL for LISTEN leads through a pooler")
		want(t, report, "listen", doctor.Problem, "ATTUNE_LISTEN_URL itself")
	})
}

func TestExamine_ListenURL(t *testing.T) {
	cfg := config(database(t, platform))
	t.Run("OtherDatabase", func(t *testing.T) {
		cfg.ListenURL = pgtest.Database(t)
		want(t, examine(t, cfg), "listen", doctor.Problem, "different databases")
	})
	t.Run("Unreachable", func(t *testing.T) {
		cfg.ListenURL = "postgres://u:s3cr3t@127.0.0.1:1/db"
		report := examine(t, cfg)
		want(t, report, "reachable", doctor.OK)
		want(t, report, "listen", doctor.Problem, "where LISTEN goes", "port 1", "check that the server runs")
		want(t, report, "keepalive", doctor.Note, "see listen")
	})
}
