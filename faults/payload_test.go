package faults_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Payloads at the edge of what NOTIFY takes, far beyond it, and such that are none,
// among others.
func TestPayloads(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		s.noGaps = true
		s.serve(s.db.url, patientCanary)
		s.follow(s.server.url)
		for range times(2, 20) {
			for _, bytes := range sizes() {
				s.fault(func() { s.sized(bytes) })
				s.db.commit(8, 100)
			}
			for _, payload := range nonsense() {
				s.fault(func() { s.db.exec(`SELECT pg_notify($1, $2)`, channel, payload) })
			}
			s.db.commit(8, 100)
		}
		s.finish()
	})
}

// sizes are those of payloads at the edge of what NOTIFY takes, and far beyond it.
func sizes() []int { return []int{7998, 7999, 8000, 8001, 1 << 20} }

// nonsense are payloads that are no notification.
func nonsense() []string {
	return []string{
		``, `{`, `null`, `[]`, `"text"`, `{"entity_type":"orders"}`, `{"entity_id":1}`, `{"entity_type":7,"entity_id":1}`,
		`{"entity_type":"orders","entity_id":1.5}`, `{"entity_type":"orders","entity_id":9223372036854775808}`,
		`{"entity_type":"orders","entity_id":1,"user_id":"x"}`, `{"entity_type":"a b","entity_id":1}`, "\x01",
	}
}

// sized writes a notification whose NOTIFY payload, where there is one, has that many
// bytes. From 8000 on PostgreSQL refuses it in listen; in log any size is committed.
func (s *scene) sized(bytes int) {
	s.t.Helper()
	ctx := s.t.Context()
	conn, err := s.db.connect(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	o := s.db.next(0)
	if s.db.source == sourceLog {
		o.size = bytes - 30
	} else {
		// The rest of it, measured.
		var rest int
		if err := conn.QueryRow(ctx, `SELECT octet_length(json_build_object('entity_type', $1::text, 'entity_id', $2::text, 'user_id', $3::bigint, 'n', $4::bigint, 'pad', '')::text)`,
			o.entityType, o.entityID, o.user, o.n).Scan(&rest); err != nil {
			s.t.Fatal(err)
		}
		o.size = bytes - rest
	}
	err = s.db.put(ctx, conn, o)
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && s.db.source == sourceListen && bytes >= 8000 && refused.Code == "22023" {
		return // so the writer learns of it; nothing was committed
	}
	if err != nil || s.db.source == sourceListen && bytes >= 8000 {
		s.t.Fatalf("%d bytes: %v", bytes, err)
	}
}

// Sessions commit in another order than they began in, and say the same twice in a
// transaction.
func TestCommits_Interleaved(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		s.noGaps = true
		s.serve(s.db.url, patientCanary)
		s.follow(s.server.url)
		s.fault(func() { s.interleave(16, times(8, 300)) })
		s.finish()
	})
}
