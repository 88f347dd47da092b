// Package pg is the side of attune that faces PostgreSQL: the listener that turns
// NOTIFY into notifications, and the executions kept in tables.
//
// The listener promises that what it hands to its Sink is in commit order and
// complete, or that a gap was announced in between. It takes no connection's word
// for that: a canary, sent the way writers send, must come back (see Listener).
//
// No error, log line or statistic of this package contains a password or the
// content of a notification.
package pg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connectTimeout bounds a connection attempt where the URL has no connect_timeout.
const connectTimeout = 10 * time.Second

// SQLSTATEs that have a remedy of their own.
const (
	stateInvalidPassword   = "28P01"
	stateInvalidAuth       = "28000"
	stateNoDatabase        = "3D000"
	stateTooManyConns      = "53300"
	stateReadOnly          = "25006"
	stateUndefinedTable    = "42P01"
	stateNoPrivilege       = "42501"
	stateNoSchema          = "3F000"
	stateNotInEncoding     = "22021"
	stateStartingUp        = "57P03"
	stateProtocolViolation = "08P01" // pgbouncer's answer to nearly everything
)

// errStandby tells why a server that answers is refused.
var errStandby = errors.New("the server is a standby (in recovery)")

// ConnectOption changes how Connect opens its pool.
type ConnectOption func(*pgxpool.Config)

// ThroughPooler is for a URL that leads through a transaction pooler: no statement
// is prepared, because the next one may run in another session. A
// default_query_exec_mode in the URL counts more.
func ThroughPooler() ConnectOption {
	return func(cfg *pgxpool.Config) {
		if !strings.Contains(cfg.ConnString(), "default_query_exec_mode") {
			cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		}
	}
}

// CheckURL says what is wrong with a connection string, without quoting from it.
func CheckURL(url string) error {
	if _, err := pgxpool.ParseConfig(url); err != nil {
		return parseError(err)
	}
	return nil
}

// Connect opens a pool on url, a connection string as libpq knows it, and proves
// that a writable server answers. What is wrong otherwise is said with host, port,
// database and user, and what to do about it; never with the password. The caller
// must Close the pool.
func Connect(ctx context.Context, url string, opts ...ConnectOption) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, parseError(err)
	}
	prepare(cfg.ConnConfig, "attune")
	for _, opt := range opts {
		opt(cfg)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, connectError(cfg.ConnConfig, err)
	}
	var standby bool
	err = pool.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby)
	if err == nil && standby {
		err = errStandby
	}
	if err != nil {
		pool.Close()
		return nil, connectError(cfg.ConnConfig, err)
	}
	return pool, nil
}

// prepare gives a connection what this package relies on, where the URL does not
// say otherwise.
func prepare(cfg *pgx.ConnConfig, application string) {
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	// A peer that vanished is noticed within half a minute, also by a connection
	// that only reads.
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	cfg.DialFunc = dialer.DialContext
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = application
	}
	// In a database of another encoding payloads would arrive in that.
	cfg.RuntimeParams["client_encoding"] = "UTF8"
}

// parseError says that a connection string is none, without quoting from it: pgx
// masks what looks like a password, but cannot know where one ends in a text that
// it could not parse.
func parseError(err error) error {
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("parse the connection URL: %w", file)
	}
	return errors.New("parse the connection URL: want postgres://user:password@host:port/database?sslmode=prefer " +
		"(in user and password, write characters such as @ : / ? # % percent-encoded: %40 for @), or key=value pairs as psql takes them")
}

// connectError names what was connected to, what went wrong and what to do.
func connectError(cfg *pgx.ConnConfig, err error) error {
	// pgconn.ConnectError holds the whole configuration: only its cause is passed on.
	if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = connect.Unwrap()
	}
	return fmt.Errorf("connect to %s: %w%s", target(cfg), oneLineError{err}, remedy(err))
}

// oneLineError is an error whose text stays on one line: where several addresses were
// tried, pgx gives each its own.
type oneLineError struct {
	error
}

func (e oneLineError) Error() string {
	return strings.Join(slices.Compact(strings.Split(e.error.Error(), "\n")), "; ")
}
func (e oneLineError) Unwrap() error { return e.error }

// target describes where a configuration leads.
func target(cfg *pgx.ConnConfig) string {
	hosts := fmt.Sprintf("host %s port %d", cfg.Host, cfg.Port)
	for _, f := range cfg.Fallbacks {
		if h := fmt.Sprintf("host %s port %d", f.Host, f.Port); !strings.Contains(hosts, h) {
			hosts += ", " + h
		}
	}
	return fmt.Sprintf("PostgreSQL at %s, database %q, user %q", hosts, cfg.Database, cfg.User)
}

// remedy returns what to do about err, to be put behind its text; "" if there is
// nothing to say.
func remedy(err error) string {
	const primary = ": LISTEN, NOTIFY and writing need the primary; point the connection URL at it, or list all hosts with target_session_attrs=read-write"
	if errors.Is(err, errStandby) {
		return primary
	}
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch server.Code {
		case stateInvalidPassword, stateInvalidAuth:
			return ": check user and password in the connection URL, and the server's pg_hba.conf"
		case stateReadOnly:
			return primary
		case stateNoDatabase:
			return ": create the database, or correct its name in the connection URL"
		case stateTooManyConns:
			return ": raise max_connections on the server, or lower pool_max_conns in the connection URL"
		case stateStartingUp:
			return ": try again when the server has started"
		case stateProtocolViolation:
			return ": if a pooler answers at this address, its log says what it refused"
		}
		return ""
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return ": check the host in the connection URL"
	}
	if pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded) {
		return ": nothing answered in time; check host and port in the connection URL, and firewalls on the way"
	}
	if _, ok := errors.AsType[*net.OpError](err); ok || errors.Is(err, io.ErrUnexpectedEOF) {
		return ": check that the server runs and accepts connections there, and host and port in the connection URL"
	}
	return ""
}
