package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// How full the notification queue may be. At 1, every COMMIT with a NOTIFY fails.
const (
	queueFilling = 0.05
	queueFull    = 0.5
)

// session is one that may hold the notification queue.
type session struct {
	who string
	// inTransaction is how long it has been in one; 0: it is in none. left: it idles
	// there, and has done so for too long.
	inTransaction time.Duration
	left          bool
	// deaf: what it is notified of waits for its client to read. Since when, PostgreSQL
	// does not tell: it may be a moment.
	deaf bool
}

// checkQueue tells how full the notification queue is and who may hold it: a session
// that LISTENs reads the queue only between its transactions, and only as long as its
// client takes what it passes on; what the slowest has not read cannot go. Which
// sessions LISTEN, PostgreSQL does not tell.
func checkQueue(ctx context.Context, p *patient) []Finding {
	var usage float64
	if err := p.pool.QueryRow(ctx, "SELECT pg_notification_queue_usage()").Scan(&usage); err != nil {
		return unread("the notification queue", err)
	}
	sessions, err := readSessions(ctx, p.pool, p.cfg.LongTransaction)
	if err != nil {
		return unread("the sessions of the server", err)
	}
	return judgeQueue(usage, sessions)
}

// readSessions reads which sessions may hold the queue: first those whose clients do
// not read, then those in a transaction, the oldest first.
func readSessions(ctx context.Context, pool *pgxpool.Pool, long time.Duration) ([]session, error) {
	rows, err := pool.Query(ctx, `
		SELECT format('pid %s (user %s, database %s, application %s)', pid, usename, datname, coalesce(nullif(application_name, ''), '?')),
		       CASE WHEN deaf THEN 0 ELSE extract(epoch FROM clock_timestamp() - xact_start)::float8 END,
		       state LIKE 'idle in transaction%' AND clock_timestamp() - state_change > make_interval(secs => $1::float8), deaf
		FROM pg_stat_activity, LATERAL (SELECT state = 'idle' AND wait_event IS NOT DISTINCT FROM 'ClientWrite' AS deaf) d
		WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND (deaf OR state <> 'idle' AND xact_start IS NOT NULL)
		ORDER BY deaf DESC, xact_start`, long.Seconds())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s session, err error) {
		var age float64
		err = row.Scan(&s.who, &age, &s.left, &s.deaf)
		s.inTransaction = time.Duration(age * float64(time.Second))
		return s, err
	})
}

// judgeQueue takes the queue's usage from 0 to 1, and the sessions that may hold it.
func judgeQueue(usage float64, sessions []session) []Finding {
	full := fmt.Sprintf("the notification queue is %.1f %% full", 100*usage)
	const (
		transactions = "end the sessions that are left in a transaction (SELECT pg_terminate_backend(pid)), and set idle_in_transaction_session_timeout"
		clients      = "if they are still there in a minute, end them (SELECT pg_terminate_backend(pid)), and see why their clients do not read"
		holders      = "end what holds it (SELECT pg_terminate_backend(pid)): sessions whose clients do not read, then those longest in a transaction; and set idle_in_transaction_session_timeout"
	)
	var deaf, open, left []string
	for _, s := range sessions {
		if s.deaf {
			deaf = append(deaf, s.who)
			continue
		}
		who := fmt.Sprintf("%s for %s", s.who, s.inTransaction.Round(time.Second))
		open = append(open, who)
		if s.left {
			left = append(left, who)
		}
	}
	switch {
	case usage >= queueFull:
		return problem(full+": when it is full, every COMMIT with a NOTIFY fails; "+holding(deaf, open), holders)
	case usage >= queueFilling:
		return warning(full+": somebody does not read; "+holding(deaf, open), holders)
	}
	var findings []Finding
	if len(left) > 0 {
		findings = append(findings, warning(full+", but sessions are left in a transaction, and those of them that LISTEN hold it: "+list(left), transactions)...)
	}
	if len(deaf) > 0 { // of which nobody can tell whether it lasts
		findings = append(findings, note(full+", and sessions that LISTEN wait for their clients to read: "+list(deaf), clients)...)
	}
	if len(findings) == 0 {
		return ok("%s, and no session is left in a transaction", full)
	}
	return findings
}

// holding names those who may hold the queue.
func holding(deaf, open []string) string {
	var who []string
	if len(deaf) > 0 {
		who = append(who, "sessions that LISTEN, and whose clients do not read: "+list(deaf))
	}
	if len(open) > 0 {
		who = append(who, "sessions in a transaction, which hold it if they LISTEN: "+list(open))
	}
	if len(who) == 0 {
		return "who holds it cannot be seen from here"
	}
	return strings.Join(who, "; ")
}

// checkListeners names the sessions whose last statement was a LISTEN.
func checkListeners(ctx context.Context, p *patient) []Finding {
	rows, err := p.pool.Query(ctx, `
		SELECT format('%s (pid %s)', coalesce(nullif(application_name, ''), '?'), pid)
		FROM pg_stat_activity
		WHERE datname = current_database() AND query ~* '^\s*listen\M' AND application_name <> 'attune doctor'
		ORDER BY backend_start LIMIT 100`)
	if err != nil {
		return unread("the sessions of the server", err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return unread("the sessions of the server", err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		return unread("the sessions of the server", err)
	}
	if len(names) == 0 {
		return ok("no session is seen to LISTEN in this database now")
	}
	return ok("%s seen to LISTEN in this database now: %s", plural(len(names), "session"), list(names))
}
