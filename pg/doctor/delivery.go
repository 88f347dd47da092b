package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// slowDelivery is the round trip from which a canary is slow.
const slowDelivery = time.Second

// canaryWait is how long a canary may take; less than a check's time, so that its
// absence can be told from a database that does not answer.
const canaryWait = 1500 * time.Millisecond

const directURL = "set ATTUNE_LISTEN_URL to a connection that leads to the server itself (or to a pooler in session mode); the database URL may keep the pooler"

// checkPooler tells which of the URLs lead through a pooler: there the server's
// session is another than the one that the client was told.
func checkPooler(ctx context.Context, p *patient) []Finding {
	pooled, err := p.pooled(ctx)
	if err != nil {
		return unread("whether a pooler is in the way", err)
	}
	switch listen := p.listen != nil && p.listen.pooled(); {
	case listen && p.sameURL():
		return note("a pooler stands before the database, also where LISTEN goes; whether notifications pass it, the check listen tells",
			"a pooler in transaction mode loses notifications: "+directURL)
	case listen:
		return note("the URL for LISTEN leads through a pooler; whether notifications pass it, the check listen tells",
			"give ATTUNE_LISTEN_URL the server's own host and port")
	case pooled:
		return ok("the database URL leads through a pooler, and LISTEN goes past it: as it should be")
	}
	return ok("no pooler in the way")
}

// sameURL reports whether LISTEN goes where everything else goes.
func (p *patient) sameURL() bool {
	return p.cfg.ListenURL == "" || p.cfg.ListenURL == p.cfg.DatabaseURL
}

// pooled reports whether the pool's sessions come from a pooler.
func (p *patient) pooled(ctx context.Context) (pooled bool, err error) {
	err = p.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		var pid uint32
		err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid)
		pooled = pid != conn.Conn().PgConn().PID()
		return err
	})
	return pooled, err
}

// checkListen sends a notification the way writers do, and waits for it the way the
// server does.
func checkListen(ctx context.Context, p *patient) []Finding {
	if p.standby {
		return note("not examined: a standby cannot LISTEN", "see standby")
	}
	if p.unheard != nil {
		return p.unheardFinding()
	}
	channel := "attune_doctor_" + rand.Text()
	if _, err := p.listen.conn.Exec(ctx, "LISTEN "+quoted(channel), pgx.QueryExecModeSimpleProtocol); err != nil {
		return problem("LISTEN was refused: "+reason(err), "see the server's log; notifications need a session on the primary")
	}
	began := time.Now()
	if _, err := p.pool.Exec(ctx, "SELECT pg_notify($1, 'canary')", pgx.QueryExecModeSimpleProtocol, channel); err != nil {
		return problem("NOTIFY was refused: "+reason(err), "see the server's log; writers need a primary whose notification queue has room")
	}
	wait, cancel := context.WithTimeout(ctx, canaryWait)
	defer cancel()
	for {
		n, err := p.listen.conn.WaitForNotification(wait)
		if err != nil {
			return p.deaf(ctx)
		}
		if n.Channel != channel {
			continue
		}
		trip := time.Since(began)
		if trip > slowDelivery {
			return note(fmt.Sprintf("a notification took %s", trip.Round(time.Millisecond)), "look at the network on the way, and at the load of the server")
		}
		return ok("a notification came back in %s", trip.Round(100*time.Microsecond))
	}
}

// deaf says why a canary has not come back.
func (p *patient) deaf(ctx context.Context) []Finding {
	lost := fmt.Sprintf("LISTEN was accepted, but a notification did not arrive within %s", canaryWait)
	if p.sameURL() {
		if p.listen.pooled() {
			return problem(lost+": the database URL leads through a pooler in transaction mode", directURL)
		}
		return problem(lost, "look for a proxy on the way that drops what the server sends by itself; "+directURL)
	}
	// Not the same server or database: nothing could arrive.
	var server time.Time
	var database string
	err := p.pool.QueryRow(ctx, "SELECT pg_postmaster_start_time(), current_database()").Scan(&server, &database)
	if err == nil && (!server.Equal(p.listen.server) || database != p.listen.database) {
		return problem(fmt.Sprintf("%s: the two URLs lead to different databases (%q, %q) or servers", lost, database, p.listen.database),
			"let ATTUNE_LISTEN_URL and the database URL name the same database of the same server")
	}
	if p.listen.pooled() {
		return problem(lost+": ATTUNE_LISTEN_URL itself leads through a pooler in transaction mode", "give ATTUNE_LISTEN_URL the server's own host and port")
	}
	return problem(lost, "look for a proxy on the way that drops what the server sends by itself, and give ATTUNE_LISTEN_URL the server's own host and port")
}
