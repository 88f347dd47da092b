package doctor_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"attune/pg"
	"attune/pg/doctor"
	"attune/pg/pgtest"
)

func TestCheckVersion(t *testing.T) {
	for name, tt := range map[string]struct {
		number int
		level  doctor.Level
		want   string
	}{
		"Fixed15":   {150016, doctor.OK, "no known bug"},
		"Before15":  {150015, doctor.Warning, "15.16"},
		"Before18":  {180001, doctor.Warning, "18.2"},
		"Fixed18":   {180002, doctor.OK, ""},
		"Fixed14":   {140021, doctor.OK, ""},
		"Before14":  {140020, doctor.Warning, "14.21"},
		"NoFix":     {130023, doctor.Warning, "upgrade to a supported major version"},
		"NotYetOut": {190000, doctor.OK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report := doctor.Report{Findings: doctor.JudgeVersion(tt.number, "X")}
			want(t, report, "", tt.level, tt.want)
		})
	}
}

func TestExamine_Standby(t *testing.T) {
	report := examine(t, config(pgtest.Standby(t)))
	want(t, report, "reachable", doctor.OK)
	want(t, report, "standby", doctor.Problem, "in recovery", "target_session_attrs=read-write")
	want(t, report, "listen", doctor.Note, "see standby")
}

func TestExamine_Settings(t *testing.T) {
	for name, tt := range map[string]struct {
		set, value, check string
		level             doctor.Level
		want              []string
	}{
		"ReadOnly":          {"default_transaction_read_only", "on", "writable", doctor.Warning, []string{"for everybody", "database"}},
		"IdleSession":       {"idle_session_timeout", "10min", "timeouts", doctor.Warning, []string{"10m0s", `ALTER ROLE "attune" SET idle_session_timeout = 0`}},
		"IdleTransaction":   {"idle_in_transaction_session_timeout", "5min", "timeouts", doctor.OK, []string{"5m0s"}},
		"NoIdleTransaction": {"idle_in_transaction_session_timeout", "0", "timeouts", doctor.Note, []string{"for ever"}},
		"Keepalive":         {"tcp_keepalives_idle", "30", "keepalive", doctor.OK, []string{"notices within"}},
		"SlowKeepalive":     {"tcp_keepalives_idle", "7200", "keepalive", doctor.Note, []string{"vanished", "tcp_keepalives_idle = 60"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := database(t, setting(tt.set, tt.value))
			want(t, examine(t, config(url)), tt.check, tt.level, tt.want...)
		})
	}
}

func TestExamine_ReadOnlyRole(t *testing.T) {
	url := database(t, platform)
	role := pgtest.Role(t, url, "")
	execute(t, role, `ALTER ROLE CURRENT_USER SET default_transaction_read_only = on`)
	want(t, examine(t, config(role)), "writable", doctor.Note, "this role's transactions are read-only", "ATTUNE_RUNNER")
}

func TestExamine_Encoding(t *testing.T) {
	url := pgtest.Database(t)
	execute(t, url, `CREATE DATABASE ascii_only ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`)
	t.Cleanup(func() {
		conn := pgtest.Connect(t, url)
		if _, err := conn.Exec(context.Background(), `DROP DATABASE ascii_only WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	want(t, examine(t, config(inDatabase(t, url, "ascii_only"))), "encoding", doctor.Warning, "SQL_ASCII")
}

func TestExamine_Connections(t *testing.T) {
	url := database(t, platform)
	want(t, examine(t, config(pgtest.Role(t, url, "CONNECTION LIMIT 4"))), "connections", doctor.Warning, "4 connections", "CONNECTION LIMIT 20")
}

func TestExamine_Queue(t *testing.T) {
	url := database(t, platform)
	cfg := config(url)
	cfg.LongTransaction = 10 * time.Millisecond
	conn := pgtest.Connect(t, url)
	if _, err := conn.Exec(t.Context(), "LISTEN secrets"); err != nil {
		t.Fatal(err)
	}
	want(t, examine(t, cfg), "queue", doctor.OK, "no session is left in a transaction")
	want(t, examine(t, cfg), "listeners", doctor.OK, "1 session seen to LISTEN")

	if _, err := conn.Exec(t.Context(), "SET application_name = 'forgotten'"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	watcher := pgtest.Connect(t, url)
	eventually(t, "the session is seen in its transaction", func() bool {
		var n int
		err := watcher.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE application_name = 'forgotten' AND state = 'idle in transaction' AND state_change < clock_timestamp() - interval '10 ms'`).Scan(&n)
		return err == nil && n == 1
	})
	want(t, examine(t, cfg), "queue", doctor.Warning, "application forgotten", "pg_terminate_backend")
}

func TestCheckQueue_Usage(t *testing.T) {
	for usage, level := range map[float64]doctor.Level{0: doctor.OK, 0.04: doctor.OK, 0.06: doctor.Warning, 0.5: doctor.Problem, 1: doctor.Problem} {
		want(t, doctor.Report{Findings: doctor.JudgeQueue(usage, nil)}, "", level, "% full")
	}
}

// From where it fills up, whoever may hold the queue is named, however short it is in
// its transaction.
func TestCheckQueue_Holders(t *testing.T) {
	const young, reads = "in a transaction, which hold it if they LISTEN: pid 1 for 2s, pid 2 for 1s", "whose clients do not read: pid 3"
	open := []doctor.Session{doctor.Deaf("pid 3"), doctor.InTransaction("pid 1", 2*time.Second), doctor.InTransaction("pid 2", time.Second)}
	for usage, level := range map[float64]doctor.Level{0.06: doctor.Warning, 0.6: doctor.Problem} {
		want(t, doctor.Report{Findings: doctor.JudgeQueue(usage, open)}, "", level, young, reads, "pg_terminate_backend")
		want(t, doctor.Report{Findings: doctor.JudgeQueue(usage, nil)}, "", level, "cannot be seen from here")
	}
	want(t, doctor.Report{Findings: doctor.JudgeQueue(0.01, open)}, "", doctor.Note, "wait for their clients to read: pid 3")
	want(t, doctor.Report{Findings: doctor.JudgeQueue(0.01, open[1:])}, "", doctor.OK)
}

// Every open transaction is seen, the oldest first, and no session that only idles.
func TestReadSessions(t *testing.T) {
	url := pgtest.Database(t)
	for _, name := range []string{"older", "younger", "idle"} {
		conn := pgtest.Connect(t, url)
		execOn(t, conn, "SET application_name = '"+name+"'")
		if name != "idle" {
			execOn(t, conn, "BEGIN")
		}
	}
	busy := pgtest.Connect(t, url)
	execOn(t, busy, "SET application_name = 'busy'")
	pool, err := pg.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _, _ = busy.Exec(ctx, "SELECT pg_sleep(60)") })
	var got string
	eventually(t, "all transactions are seen", func() bool {
		sessions, err := doctor.ReadSessions(t.Context(), pool, time.Hour)
		got = fmt.Sprintf("%+v, %v", sessions, err)
		return err == nil && len(sessions) == 3
	})
	if !regexp.MustCompile(`application older\).*application younger\).*application busy\)`).MatchString(got) || strings.Contains(got, "left:true") {
		t.Errorf("got %s", got)
	}
}

// A client that stopped reading holds the queue as well as one that is in a
// transaction, and more often.
func TestExamine_ClientDoesNotRead(t *testing.T) {
	url := pgtest.Database(t)
	deaf := pgtest.Connect(t, url) // reads nothing while it is asked for nothing
	execOn(t, deaf, "SET application_name = 'deaf'")
	execOn(t, deaf, "LISTEN flood")
	writer := pgtest.Connect(t, url)
	eventually(t, "the session waits for its client", func() bool {
		execOn(t, writer, "SELECT pg_notify('flood', i || repeat('x', 7900)) FROM generate_series(1, 300) i")
		var waits bool
		err := writer.QueryRow(t.Context(), "SELECT wait_event = 'ClientWrite' FROM pg_stat_activity WHERE application_name = 'deaf'").Scan(&waits)
		return err == nil && waits
	})
	report := examine(t, config(url))
	want(t, report, "queue", doctor.Note, "wait for their clients to read", "application deaf", "pg_terminate_backend")

	// The queue is the server's: the next test finds it empty again.
	execOn(t, writer, "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE application_name = 'deaf'")
}

func TestExamine_Privileges(t *testing.T) {
	url := database(t, platform)
	report := examine(t, config(pgtest.Role(t, url, "")))
	want(t, report, "executions", doctor.Problem, "GRANT USAGE ON SCHEMA")
	want(t, report, "privileges", doctor.Note, "pg_read_all_stats")

	execute(t, url, `GRANT USAGE ON SCHEMA attune TO PUBLIC`)
	want(t, examine(t, config(pgtest.Role(t, url, ""))), "executions", doctor.Problem, `GRANT SELECT ON "attune"."execution"`)

	execute(t, url, `REVOKE EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) FROM PUBLIC`)
	report = examine(t, config(pgtest.Role(t, url, "")))
	want(t, report, "privileges", doctor.Problem, "may not call pg_notify")
	want(t, report, "listen", doctor.Problem, "NOTIFY was refused")
}

func TestExamine_Executions(t *testing.T) {
	want(t, examine(t, config(pgtest.Database(t))), "executions", doctor.Note, "501", "ATTUNE_SCHEMA")
	url := database(t, `CREATE SCHEMA attune; CREATE TABLE attune.execution (id bigint, status text)`)
	want(t, examine(t, config(url)), "executions", doctor.Warning, "has no column", "action_ref")
}
