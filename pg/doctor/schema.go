package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"attune/pg"
	"attune/pg/live"
)

// The log is large from these sizes on.
const (
	logBytes = 1 << 30
	logAge   = 31 * 24 * time.Hour
)

// checkPrivileges tells what the role may not do that attune does.
func checkPrivileges(ctx context.Context, p *patient) []Finding {
	var role string
	var notify, stats, installed, used, read, pruned, counted, watches bool
	err := p.pool.QueryRow(ctx, `
		SELECT current_user,
		       has_function_privilege('pg_catalog.pg_notify(text, text)', 'EXECUTE'),
		       pg_has_role('pg_read_all_stats', 'MEMBER'),
		       n.oid IS NOT NULL,
		       coalesce(has_schema_privilege(n.oid, 'USAGE'), false),
		       coalesce((SELECT bool_and(has_table_privilege(c.oid, 'SELECT')) FROM pg_class c
		                 WHERE c.relnamespace = n.oid AND c.relname IN ('notification_log', 'meta', 'losses')), false),
		       coalesce((SELECT bool_and(CASE c.relname WHEN 'meta' THEN has_column_privilege(c.oid, a.attnum, 'UPDATE')
		                                                ELSE has_table_privilege(c.oid, 'DELETE') END)
		                 FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'pruned_seq'
		                 WHERE c.relnamespace = n.oid AND c.relname IN ('notification_log', 'meta', 'outbox')), false),
		       coalesce((SELECT has_sequence_privilege(c.oid, 'USAGE') FROM pg_class c
		                 WHERE c.relnamespace = n.oid AND c.relname = 'losses'), false),
		       coalesce((SELECT has_table_privilege(c.oid, 'SELECT') FROM pg_class c
		                 WHERE c.relnamespace = n.oid AND c.relname = 'watch'), false)
		FROM (VALUES ($1::text)) v(name) LEFT JOIN pg_namespace n ON n.nspname = v.name`, live.Schema).
		Scan(&role, &notify, &stats, &installed, &used, &read, &pruned, &counted, &watches)
	if err != nil {
		return unread("the role's privileges", err)
	}
	var findings []Finding
	if !notify {
		findings = append(findings, problem(fmt.Sprintf("the role %s may not call pg_notify: attune cannot prove that notifications arrive", quoted(role)),
			"GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) TO "+quoted(role))...)
	}
	if installed && (!used || !read) {
		findings = append(findings, problem(fmt.Sprintf("the role %s may not read the log %s.notification_log", quoted(role), live.Schema),
			fmt.Sprintf("GRANT USAGE ON SCHEMA %[1]s TO %[2]s; GRANT SELECT ON ALL TABLES IN SCHEMA %[1]s TO %[2]s; GRANT SELECT ON ALL SEQUENCES IN SCHEMA %[1]s TO %[2]s",
				live.Schema, quoted(role)))...)
	}
	if installed && !pruned {
		findings = append(findings, note(fmt.Sprintf("the role %s may not prune the log: it grows, unless another attune serve prunes it", quoted(role)),
			fmt.Sprintf("GRANT DELETE ON %[1]s.notification_log, %[1]s.outbox TO %[2]s; GRANT UPDATE (pruned_seq) ON %[1]s.meta TO %[2]s", live.Schema, quoted(role)))...)
	}
	if installed && !counted {
		findings = append(findings, note(fmt.Sprintf("the role %s may not count losses: after one that a writer could not count, older cursors still do", quoted(role)),
			fmt.Sprintf("GRANT USAGE ON SEQUENCE %s.losses TO %s", live.Schema, quoted(role)))...)
	}
	if used && watches {
		findings = append(findings, p.checkWatched(ctx, role)...)
	}
	if !stats {
		findings = append(findings, note(fmt.Sprintf("the role %s sees of other roles' sessions only that they exist: queue and listeners may miss some", quoted(role)),
			"for a fuller examination: GRANT pg_read_all_stats TO "+quoted(role))...)
	}
	if len(findings) == 0 {
		return ok("the role %s may do what attune does", quoted(role))
	}
	return findings
}

// checkWatched looks for watched tables of which the role may not read what their
// notifications tell: these arrive all the same, but /entities does not answer.
func (p *patient) checkWatched(ctx context.Context, role string) []Finding {
	rows, err := p.pool.Query(ctx, `
		SELECT n.nspname::text, c.relname::text
		FROM attune_live.watch w JOIN pg_class c ON c.oid = w.relation JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE NOT has_schema_privilege(n.oid, 'USAGE') OR EXISTS (
			SELECT FROM pg_attribute a
			WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT')
			  AND (w.options -> 'columns' IS NULL OR w.options -> 'columns' ? a.attname OR a.attname IN (w.options ->> 'key', w.options ->> 'user_id')
			       OR w.options -> 'key' IS NULL AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey))))
		ORDER BY 1, 2`)
	if err != nil {
		return unread("the watched tables", err)
	}
	defer rows.Close()
	var tables, grants []string
	schemas := make(map[string]bool)
	for rows.Next() {
		var schema, name string
		if err := rows.Scan(&schema, &name); err != nil {
			return unread("the watched tables", err)
		}
		if tables = append(tables, quoted(schema, name)); !schemas[schema] {
			grants = append(grants, "GRANT USAGE ON SCHEMA "+quoted(schema)+" TO "+quoted(role))
		}
		schemas[schema] = true
	}
	if err := rows.Err(); err != nil {
		return unread("the watched tables", err)
	}
	if len(tables) == 0 {
		return nil
	}
	grants = append(grants, "GRANT SELECT ON "+strings.Join(tables, ", ")+" TO "+quoted(role))
	return note(fmt.Sprintf("the role %s may not read watched tables, whose rows /entities refuses then: %s", quoted(role), list(tables)),
		strings.Join(grants, "; "))
}

// checkExecutions looks for the execution table the way serve does.
func checkExecutions(ctx context.Context, p *patient) []Finding {
	executions, err := pg.OpenExecutions(ctx, p.pool, p.cfg.Schema)
	if errors.Is(err, pg.ErrNoExecutions) {
		if !strings.Contains(err.Error(), "has no column") {
			return note(err.Error()+": /executions answers 501, the streams work", "if the database has one: name its schema in ATTUNE_SCHEMA")
		}
		return warning(err.Error()+": /executions answers 501", "name the schema of the platform's table in ATTUNE_SCHEMA, or rename the other one")
	}
	if err != nil {
		return problem("the execution table: "+reason(err), "GRANT USAGE ON SCHEMA "+quoted(p.cfg.Schema)+" to the role: attune serve does not start without it")
	}
	var readable bool
	if err := p.pool.QueryRow(ctx, "SELECT has_table_privilege($1, 'SELECT')", executions.Table()).Scan(&readable); err != nil {
		return unread("the privileges on "+executions.Table(), err)
	}
	if !readable {
		return problem("the role may not read "+executions.Table(), "GRANT SELECT ON "+executions.Table()+" to the role")
	}
	return ok("executions are in %s", executions.Table())
}

// checkLog tells how the log of notifications is, where there is one, and the watches
// that write it.
func checkLog(ctx context.Context, p *patient) []Finding {
	status, err := live.ReadStatus(ctx, p.pool)
	switch {
	case errors.Is(err, live.ErrNotInstalled) && p.logged(ctx):
		return warning("the log of notifications was made by an earlier attune, or is incomplete", "bring it up to date: attune db install")
	case errors.Is(err, live.ErrNotInstalled) && p.cfg.LogNeeded:
		return problem("ATTUNE_SOURCE=log, and the database has no log of notifications", "install it: attune db install")
	case errors.Is(err, live.ErrNotInstalled):
		return ok("no log of notifications: replay reaches as far back as the server's memory, and a lost connection is a gap")
	case err != nil:
		return unread("the log", err)
	}
	return judgeLog(status, time.Now())
}

// judgeLog takes the log's status at the time now.
func judgeLog(s live.Status, now time.Time) []Finding {
	is := fmt.Sprintf("the log has %s in %d MB", plural(int(s.Rows), "notification"), s.Bytes>>20)
	old := false
	if s.Oldest != nil {
		age := max(now.Sub(*s.Oldest), 0)
		old = age > logAge
		is += fmt.Sprintf(", the oldest %s old", age.Round(time.Minute))
	}
	var findings []Finding
	for _, w := range s.Watches {
		if len(w.Problems) > 0 {
			findings = append(findings, problem(fmt.Sprintf("changes of the watched table %s are not told, or not all: %s", w.Table, strings.Join(w.Problems, "; ")),
				"watch it anew: attune db watch; or no more: attune db unwatch")...)
		}
	}
	if s.Losses > 0 {
		findings = append(findings, warning(fmt.Sprintf("since it was installed, the log could not take %s; subscribers got a gap", plural(int(s.Losses), "notification")),
			"the server's log tells why, in warnings that begin with attune_live")...)
	}
	if s.Bytes > logBytes || old {
		findings = append(findings, note(is+": nobody seems to prune it", "let attune serve run on it, which prunes it, or delete the oldest rows in small batches")...)
	}
	if len(findings) == 0 {
		return ok("%s, %s, no losses", is, plural(len(s.Watches), "watched table"))
	}
	return findings
}
