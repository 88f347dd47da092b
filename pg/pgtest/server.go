package pgtest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"attune/pg/local"
)

// Server starts a server for t alone, for tests that stop it or kill it. It is
// stopped, and its data removed, when t ends. Start it again, on the same data,
// with [Start] and the configuration returned.
func Server(tb testing.TB) (*local.Server, local.Config) {
	tb.Helper()
	cfg, err := config()
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	// Not Temporary: the data must outlive a stop.
	tb.Cleanup(func() {
		if err := os.RemoveAll(cfg.DataDir); err != nil {
			tb.Errorf("pgtest: %v", err)
		}
	})
	return Start(tb, cfg), cfg
}

// Start starts a server that is stopped when t ends.
func Start(tb testing.TB, cfg local.Config) *local.Server {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	s, err := local.Start(ctx, cfg)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() { stop(tb, s) })
	return s
}

// Standby starts a server of t's own that is a standby, of no primary, and returns the
// URL of a database on it.
func Standby(tb testing.TB) string {
	tb.Helper()
	s, cfg := Server(tb)
	stop(tb, s)
	// PostgreSQL, which may run as another user, opens the file for writing.
	signal := filepath.Join(cfg.DataDir, "pgdata", "standby.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	if err := os.Chmod(signal, 0o666); err != nil { //nolint:gosec // an empty file, on a test's server
		tb.Fatalf("pgtest: %v", err)
	}
	return Start(tb, cfg).URL()
}

// stop stops a server; it may have ended already.
func stop(tb testing.TB, s *local.Server) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		tb.Errorf("pgtest: %v", err)
	}
}
