package doctor

import (
	"context"
	"fmt"
	"time"
)

// How full the notification queue may be. At 1, every COMMIT with a NOTIFY fails.
const (
	queueFilling = 0.05
	queueFull    = 0.5
)

// checkQueue tells how full the notification queue is and who may hold it: a session
// that LISTENs reads the queue only between its transactions, and what the slowest
// has not read cannot go. Which sessions LISTEN, PostgreSQL does not tell.
func checkQueue(ctx context.Context, p *patient) []Finding {
	var usage float64
	if err := p.pool.QueryRow(ctx, "SELECT pg_notification_queue_usage()").Scan(&usage); err != nil {
		return unread("the notification queue", err)
	}
	rows, err := p.pool.Query(ctx, `
		SELECT format('pid %s (user %s, database %s, application %s)', pid, usename, datname, coalesce(nullif(application_name, ''), '?')),
		       extract(epoch FROM clock_timestamp() - xact_start)::float8
		FROM pg_stat_activity
		WHERE state LIKE 'idle in transaction%' AND clock_timestamp() - state_change > make_interval(secs => $1::float8)
		ORDER BY xact_start LIMIT 20`, p.cfg.LongTransaction.Seconds())
	if err != nil {
		return unread("the sessions of the server", err)
	}
	defer rows.Close()
	var holders []string
	for rows.Next() {
		var who string
		var age float64
		if err := rows.Scan(&who, &age); err != nil {
			return unread("the sessions of the server", err)
		}
		holders = append(holders, fmt.Sprintf("%s for %s", who, time.Duration(age*float64(time.Second)).Round(time.Second)))
	}
	if err := rows.Err(); err != nil {
		return unread("the sessions of the server", err)
	}
	return judgeQueue(usage, holders)
}

// judgeQueue takes the queue's usage from 0 to 1, and the sessions that may hold it.
func judgeQueue(usage float64, holders []string) []Finding {
	full := fmt.Sprintf("the notification queue is %.1f %% full", 100*usage)
	const end = "end the sessions that are left in a transaction (SELECT pg_terminate_backend(pid)), and set idle_in_transaction_session_timeout"
	switch {
	case usage >= queueFull:
		return problem(full+": when it is full, every COMMIT with a NOTIFY fails; "+holding(holders), end)
	case usage >= queueFilling:
		return warning(full+": somebody does not read; "+holding(holders), end)
	case len(holders) > 0:
		return warning(full+", but sessions are left in a transaction, and those of them that LISTEN hold it: "+list(holders), end)
	}
	return ok("%s, and no session is left in a transaction", full)
}

func holding(holders []string) string {
	if len(holders) == 0 {
		return "no session left in a transaction can be seen from here"
	}
	return "left in a transaction: " + list(holders)
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
