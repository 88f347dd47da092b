package pg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// maxRevocations is how many are read, the latest.
const maxRevocations = 100_000

// Revocation is a row of attune_live.revocation: one token, or all that a user was given
// up to then.
type Revocation struct {
	TokenID *string
	UserID  *int64
	Revoked time.Time
}

// Revocations reads what was revoked, the oldest first. A database without the table has
// none.
func Revocations(ctx context.Context, pool *pgxpool.Pool) ([]Revocation, error) {
	rows, err := pool.Query(ctx, `
		SELECT token_id, user_id, revoked FROM (
			SELECT * FROM attune_live.revocation ORDER BY id DESC LIMIT $1
		) latest ORDER BY id`, maxRevocations)
	if err == nil {
		var list []Revocation
		if list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Revocation]); err == nil {
			return list, nil
		}
	}
	if errors.Is(orNoLog(err), ErrNoLog) {
		return nil, nil
	}
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == stateNoPrivilege {
		err = fmt.Errorf("%w: GRANT USAGE ON SCHEMA attune_live and GRANT SELECT ON attune_live.revocation to the server's role, so that it knows which tokens were taken back", err)
	}
	return nil, fmt.Errorf("read the revocations: %w", err)
}

// Revoke tells every server that tokens count no more, and reports whether it is written
// down for those that start later: where the database has attune_live.revocation. One of
// tokenID and userID is nil.
func Revoke(ctx context.Context, pool *pgxpool.Pool, tokenID *string, userID *int64) (kept bool, err error) {
	if err := pool.QueryRow(ctx, `SELECT to_regclass('attune_live.revocation') IS NOT NULL`).Scan(&kept); err != nil {
		return false, fmt.Errorf("revoke: %w", err)
	}
	if kept {
		_, err = pool.Exec(ctx, `INSERT INTO attune_live.revocation (token_id, user_id) VALUES ($1, $2)`, tokenID, userID)
	} else {
		_, err = pool.Exec(ctx, `
			SELECT pg_notify($1, json_build_object('revoke',
				CASE WHEN $2::text IS NULL THEN json_build_object('user', $3::bigint) ELSE json_build_object('jti', $2::text) END)::text)`,
			ControlChannel, tokenID, userID)
	}
	if err != nil {
		return false, fmt.Errorf("revoke: %w", err)
	}
	return kept, nil
}
