package doctor

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// notifyFixed is, for each major version, the first minor release in which VACUUM
// keeps the commit log that unread notifications still need, and in which an error
// while notifications are read ends the session, where before it only skipped them.
// PostgreSQL's release notes of 2026-02-12 (18.2, 17.8, 16.12, 15.16, 14.21):
// "Prevent truncation of CLOG that is still needed by unread NOTIFY messages",
// "Escalate errors occurring during NOTIFY message processing to FATAL".
func notifyFixed() map[int]int { return map[int]int{14: 21, 15: 16, 16: 12, 17: 8, 18: 2} }

func checkVersion(ctx context.Context, p *patient) []Finding {
	var number int
	var version string
	err := p.pool.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_version')").Scan(&number, &version)
	if err != nil {
		return unread("the server's version", err)
	}
	return judgeVersion(number, version)
}

func judgeVersion(number int, version string) []Finding {
	const bug = "can lose notifications: a listener that is behind while VACUUM runs gets \"could not access status of transaction\", and what it had not read is skipped"
	major, minor := number/10000, number%10000
	newest := 0
	for m := range notifyFixed() {
		newest = max(newest, m)
	}
	fixed, known := notifyFixed()[major]
	switch {
	case known && minor < fixed:
		return warning(fmt.Sprintf("PostgreSQL %s %s", version, bug),
			fmt.Sprintf("update to the latest minor release of PostgreSQL %d: %d.%d (release notes of 2026-02-12) or later has the fix", major, major, fixed))
	case !known && major < newest:
		return warning(fmt.Sprintf("PostgreSQL %s %s; there is no fix for this major version, whose support has ended", version, bug),
			"upgrade to a supported major version: 14.21, 15.16, 16.12, 17.8, 18.2 (release notes of 2026-02-12) and later have the fix")
	}
	return ok("PostgreSQL %s: no known bug in LISTEN and NOTIFY", version)
}

func checkStandby(_ context.Context, p *patient) []Finding {
	if p.standby {
		return problem("the server is a standby (in recovery): it can neither LISTEN nor NOTIFY",
			"point the database URL at the primary, or list all hosts in it with target_session_attrs=read-write")
	}
	return ok("the server is a primary")
}

// checkWritable tells whether transactions begin read-only. attune itself only reads
// where a platform writes.
func checkWritable(ctx context.Context, p *patient) []Finding {
	var readOnly, source string
	err := p.pool.QueryRow(ctx, "SELECT setting, source FROM pg_settings WHERE name = 'default_transaction_read_only'").Scan(&readOnly, &source)
	switch {
	case err != nil:
		return unread("default_transaction_read_only", err)
	case readOnly != "on":
		return ok("transactions may write")
	case source == "user" || source == "database user" || source == "client" || source == "session":
		return note("this role's transactions are read-only by default: enough to follow a database, not to run actions in it (ATTUNE_RUNNER) or to install the log",
			"for these, take a role without default_transaction_read_only")
	}
	return warning(fmt.Sprintf("transactions are read-only by default, for everybody (set in: %s): who cannot write notifies nobody", source),
		"if no failover is under way, reset default_transaction_read_only where it is set")
}

func checkEncoding(ctx context.Context, p *patient) []Finding {
	var encoding string
	if err := p.pool.QueryRow(ctx, "SELECT current_setting('server_encoding')").Scan(&encoding); err != nil {
		return unread("the database's encoding", err)
	}
	switch encoding {
	case "UTF8":
		return ok("the database's encoding is UTF8")
	case "SQL_ASCII":
		return warning("the database's encoding is SQL_ASCII: PostgreSQL does not check text, and notifications that are not UTF-8 are skipped",
			"make sure that all writers send UTF-8, or move the data to a database with encoding UTF8")
	}
	return note("the database's encoding is "+encoding+": the server converts notifications to UTF-8", "nothing, unless characters are missing")
}

// checkKeepalive tells how long the server keeps the session of a client that has
// vanished. The other direction is attune's own: it asks after 15 s of silence, and
// a canary travels every few seconds.
func checkKeepalive(ctx context.Context, p *patient) []Finding {
	if p.listen == nil {
		return note("not examined: there is no connection to listen on", "see listen")
	}
	var network bool
	var idle, interval, count int
	var check string
	err := p.listen.conn.QueryRow(ctx, `
		SELECT inet_client_addr() IS NOT NULL, k.idle::int, k.interval::int, k.count::int,
		       coalesce(current_setting('client_connection_check_interval', true), '0')
		FROM (SELECT max(setting) FILTER (WHERE name = 'tcp_keepalives_idle') AS idle,
		             max(setting) FILTER (WHERE name = 'tcp_keepalives_interval') AS interval,
		             max(setting) FILTER (WHERE name = 'tcp_keepalives_count') AS count FROM pg_settings) k`).
		Scan(&network, &idle, &interval, &count, &check)
	if err != nil {
		return unread("the keepalive settings", err)
	}
	if !network {
		return ok("the connection is a socket of this machine: it needs no keepalive")
	}
	return judgeKeepalive(idle, interval, count, check)
}

// judgeKeepalive takes tcp_keepalives_* in seconds and probes.
func judgeKeepalive(idle, interval, count int, check string) []Finding {
	const patience = 15 * time.Minute
	gone := time.Duration(idle+interval*count) * time.Second
	switch {
	case idle == 0:
		return note("the server's system does not tell its keepalive settings", "set tcp_keepalives_idle, e.g. to 60")
	case gone > patience:
		return note(fmt.Sprintf("the server keeps the session of a client that vanished for up to %s (tcp_keepalives_idle %d, client_connection_check_interval %s)", gone, idle, check),
			"on the server: tcp_keepalives_idle = 60, tcp_keepalives_interval = 10, tcp_keepalives_count = 6")
	}
	return ok("the server notices within %s that a client has vanished; attune notices a silent server by itself", gone)
}

// checkTimeouts looks for timeouts that cut a session which only listens, and for
// the one that ends sessions which hold the notification queue.
func checkTimeouts(ctx context.Context, p *patient) []Finding {
	if p.listen == nil {
		return note("not examined: there is no connection to listen on", "see listen")
	}
	const milliseconds = `coalesce((SELECT setting::bigint FROM pg_settings WHERE name = '%s' AND unit = 'ms'), 0)`
	var session, transaction int64
	var role string
	err := p.listen.conn.QueryRow(ctx, fmt.Sprintf("SELECT "+milliseconds+", "+milliseconds+", current_user",
		"idle_session_timeout", "idle_in_transaction_session_timeout")).Scan(&session, &transaction, &role)
	if err != nil {
		return unread("the timeouts", err)
	}
	if session > 0 {
		return warning(fmt.Sprintf("idle_session_timeout is %s: the server cuts the listen connection that often, and every subscriber gets a gap", time.Duration(session)*time.Millisecond),
			"ALTER ROLE "+quoted(role)+" SET idle_session_timeout = 0")
	}
	if transaction == 0 {
		return note("idle_in_transaction_session_timeout is off: a session that LISTENs and is left in a transaction holds the notification queue for ever",
			"set idle_in_transaction_session_timeout on the server, e.g. to '10min'")
	}
	return ok("no timeout cuts a session that listens; those left in a transaction end after %s", time.Duration(transaction)*time.Millisecond)
}

// checkConnections tells whether there is room for attune's connections: a small pool
// and the one that listens.
func checkConnections(ctx context.Context, p *patient) []Finding {
	var most, reserved, used, roleLimit, databaseLimit int
	var role string
	err := p.pool.QueryRow(ctx, `
		SELECT current_setting('max_connections')::int,
		       current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0),
		       (SELECT sum(numbackends)::int FROM pg_stat_database),
		       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
		       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()), current_user`).
		Scan(&most, &reserved, &used, &roleLimit, &databaseLimit, &role)
	if err != nil {
		return unread("the number of connections", err)
	}
	const needed = 10
	free := most - reserved - used
	switch {
	case roleLimit >= 0 && roleLimit < needed:
		return warning(fmt.Sprintf("the role may have %s at once; attune needs up to %d", plural(roleLimit, "connection"), needed),
			"ALTER ROLE "+quoted(role)+" CONNECTION LIMIT "+strconv.Itoa(2*needed)+", or set pool_max_conns in the database URL to less")
	case databaseLimit >= 0 && databaseLimit < needed:
		return warning(fmt.Sprintf("the database takes %s at once; attune needs up to %d", plural(databaseLimit, "connection"), needed),
			"raise the database's CONNECTION LIMIT, or set pool_max_conns in the database URL to less")
	case free < needed:
		return warning(fmt.Sprintf("%d of %d connections are in use, %d are reserved: attune needs up to %d and may find none", used, most, reserved, needed),
			"raise max_connections, or end what holds connections and does not need them")
	}
	return ok("%d of %d connections are free", free, most)
}
