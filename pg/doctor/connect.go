package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"attune/pg"
)

// closeTimeout bounds the goodbye to a server that may not be there any more.
const closeTimeout = time.Second

// connection is one session, and what it says of itself.
type connection struct {
	conn *pgx.Conn
	// pid is what the server calls the session's process. A pooler gives its clients
	// another number.
	pid uint32
	// server and database tell whether two connections lead to the same place.
	server   time.Time
	database string
}

// pooled reports whether something stands between us and the server that hands out
// sessions.
func (c *connection) pooled() bool { return c.pid != c.conn.PgConn().PID() }

// admit connects. The patient is nil when the database cannot be reached; otherwise
// the caller must discharge it.
func admit(ctx context.Context, cfg Config) (*patient, []Finding) {
	p := &patient{cfg: cfg}
	pool, config, err := open(ctx, cfg.DatabaseURL)
	if err != nil {
		// A standby is refused, too: it can still be asked.
		if config == nil || timedOut(err) || !inRecovery(ctx, config) {
			return nil, unreachable(err)
		}
		p.standby = true
		if pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
			return nil, unreachable(err)
		}
	}
	p.pool = pool
	if cfg.ListenURL != "" && cfg.ListenURL != cfg.DatabaseURL {
		var direct *pgxpool.Pool
		if direct, config, err = open(ctx, cfg.ListenURL); err == nil {
			direct.Close()
		}
		p.unheard = err
	}
	if p.unheard == nil {
		p.listen, p.unheard = dial(ctx, config)
	}
	c := config.ConnConfig
	return p, ok("PostgreSQL answers at host %s port %d, database %q, user %q", c.Host, c.Port, c.Database, c.User)
}

func unreachable(err error) []Finding {
	what, todo := pg.Explain(err)
	if todo == "" {
		todo = "correct the database URL; the server's log may tell more"
	}
	return problem(what, todo)
}

// discharge closes what was opened.
func (p *patient) discharge() {
	if p.listen != nil {
		p.listen.close()
	}
	p.pool.Close()
}

// open opens a pool, and returns its configuration also when it could not connect;
// nil when the URL is none.
func open(ctx context.Context, url string) (pool *pgxpool.Pool, config *pgxpool.Config, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	pool, err = pg.Connect(ctx, url, pg.ThroughPooler(), func(c *pgxpool.Config) {
		c.MaxConns, c.MinConns, c.MinIdleConns = 2, 0, 0
		c.ConnConfig.ConnectTimeout = min(c.ConnConfig.ConnectTimeout, connectTimeout)
		c.ConnConfig.RuntimeParams["application_name"] = "attune doctor"
		config = c
	})
	return pool, config, err
}

func inRecovery(ctx context.Context, config *pgxpool.Config) bool {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig.Copy())
	if err != nil {
		return false
	}
	defer shut(conn)
	var standby bool
	err = conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby)
	return err == nil && standby
}

// dial opens one session.
func dial(ctx context.Context, config *pgxpool.Config) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig.Copy())
	if err != nil {
		return nil, fmt.Errorf("open a connection to listen on: %w", err)
	}
	c := &connection{conn: conn}
	err = conn.QueryRow(ctx, "SELECT pg_backend_pid(), pg_postmaster_start_time(), current_database()").
		Scan(&c.pid, &c.server, &c.database)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("open a connection to listen on: %w", err)
	}
	return c, nil
}

func (c *connection) close() { shut(c.conn) }

func shut(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx)
	<-conn.PgConn().CleanupDone()
}

// unheardFinding says why there is no connection to listen on.
func (p *patient) unheardFinding() []Finding {
	what, todo := pg.Explain(p.unheard)
	if !strings.HasPrefix(what, "connect to ") {
		what = "the connection to listen on failed: " + reason(p.unheard)
	}
	if todo == "" {
		todo = "check ATTUNE_LISTEN_URL"
	}
	return problem("where LISTEN goes: "+what, todo)
}
