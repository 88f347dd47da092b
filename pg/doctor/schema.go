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
	var notify, stats, installed, used, read bool
	err := p.pool.QueryRow(ctx, `
		SELECT current_user,
		       has_function_privilege('pg_catalog.pg_notify(text, text)', 'EXECUTE'),
		       pg_has_role('pg_read_all_stats', 'MEMBER'),
		       n.oid IS NOT NULL,
		       coalesce(has_schema_privilege(n.oid, 'USAGE'), false),
		       coalesce((SELECT bool_and(has_table_privilege(c.oid, 'SELECT')) FROM pg_class c
		                 WHERE c.relnamespace = n.oid AND c.relname IN ('notification_log', 'meta', 'losses')), false)
		FROM (VALUES ($1::text)) v(name) LEFT JOIN pg_namespace n ON n.nspname = v.name`, live.Schema).
		Scan(&role, &notify, &stats, &installed, &used, &read)
	if err != nil {
		return unread("the role's privileges", err)
	}
	switch {
	case !notify:
		return problem(fmt.Sprintf("the role %s may not call pg_notify: attune cannot prove that notifications arrive", quoted(role)),
			"GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) TO "+quoted(role))
	case installed && (!used || !read):
		return problem(fmt.Sprintf("the role %s may not read the log %s.notification_log", quoted(role), live.Schema),
			fmt.Sprintf("GRANT USAGE ON SCHEMA %[1]s TO %[2]s; GRANT SELECT ON ALL TABLES IN SCHEMA %[1]s TO %[2]s; GRANT SELECT ON ALL SEQUENCES IN SCHEMA %[1]s TO %[2]s",
				live.Schema, quoted(role)))
	case !stats:
		return note(fmt.Sprintf("the role %s sees of other roles' sessions only that they exist: queue and listeners may miss some", quoted(role)),
			"for a fuller examination: GRANT pg_read_all_stats TO "+quoted(role))
	}
	return ok("the role %s may do what attune does", quoted(role))
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

// checkLog tells how the log of notifications is, where there is one.
func checkLog(ctx context.Context, p *patient) []Finding {
	log, err := pg.OpenLog(ctx, p.pool)
	switch {
	case errors.Is(err, pg.ErrNoLog) && p.cfg.LogNeeded:
		return problem("ATTUNE_SOURCE=log, and "+err.Error(), "install it: attune db install")
	case errors.Is(err, pg.ErrNoLog):
		return ok("no log of notifications: replay reaches as far back as the server's memory, and a lost connection is a gap")
	case err != nil:
		return unread("the log", err)
	}
	state, err := log.State(ctx)
	if err != nil {
		return unread("the log", err)
	}
	var losses, size int64
	var age float64
	err = p.pool.QueryRow(ctx, `
		SELECT (SELECT last_value FROM attune_live.losses), pg_total_relation_size('attune_live.notification_log'),
		       coalesce(extract(epoch FROM now() - (SELECT created FROM attune_live.notification_log ORDER BY seq LIMIT 1)), 0)::float8`).
		Scan(&losses, &size, &age)
	if err != nil {
		return unread("the log's size", err)
	}
	return judgeLog(state, losses, size, time.Duration(age*float64(time.Second)))
}

// judgeLog takes where the log stands, how many notifications it could not take, its
// size in bytes and the age of its oldest row.
func judgeLog(state pg.LogState, losses, size int64, age time.Duration) []Finding {
	is := fmt.Sprintf("the log reaches from %d to %d, %d MB, its oldest row %s old", state.Pruned+1, state.Head, size>>20, age.Round(time.Minute))
	switch {
	case losses > 0:
		return warning(fmt.Sprintf("since it was installed, the log could not take %s; subscribers got a gap", plural(int(losses), "notification")),
			"the server's log tells why, in warnings that begin with attune_live")
	case size > logBytes || age > logAge:
		return warning(is+": it is not pruned", "attune serve prunes it while it runs; else delete the oldest rows in small batches")
	}
	return ok("%s, no losses", is)
}
