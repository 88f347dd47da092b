package http

import (
	"net/http"
	"time"

	"attune/broadcast"
	"attune/wire"
)

// handleLive serves /livez: the process answers.
func (s *Server) handleLive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, []byte(`{"status":"alive"}`+"\n"))
}

// handleReady serves /readyz: notifications arrive, proved by the canary, and the
// server is not on its way out.
func (s *Server) handleReady(w http.ResponseWriter, r *http.Request) {
	problem := s.Source().Problem
	if s.draining.Load() {
		problem = "the server is shutting down"
	}
	if problem != "" {
		s.problem(w, r, &wire.Error{Code: wire.CodeNotReady, Message: problem})
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, []byte(`{"status":"ready"}`+"\n"))
}

// stats is the answer of /stats.
type stats struct {
	Version       string            `json:"version"`
	UptimeSeconds float64           `json:"uptime_seconds"`
	Draining      bool              `json:"draining"`
	Executions    string            `json:"executions"` // "read_write", "read_only" or "none"
	Source        SourceStats       `json:"source"`
	Hub           broadcast.Stats   `json:"hub"`
	Connections   map[string]uint64 `json:"connections"`
	SlowConsumers map[string]uint64 `json:"slow_consumers"`
	Deliveries    map[string]uint64 `json:"deliveries"`
}

// handleStats serves /stats.
func (s *Server) handleStats(w http.ResponseWriter, _ *http.Request) {
	executions := "read_write"
	switch {
	case s.Executions == nil:
		executions = "none"
	case s.Actions == nil:
		executions = "read_only"
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, encode(stats{
		Version:       s.Version,
		UptimeSeconds: time.Since(s.started).Seconds(),
		Draining:      s.draining.Load(),
		Executions:    executions,
		Source:        s.Source(),
		Hub:           s.Hub.Stats(),
		Connections:   s.metrics.byTransport(s.metrics.connections),
		SlowConsumers: s.metrics.byTransport(s.metrics.slow),
		Deliveries:    s.metrics.byTransport(s.metrics.deliveries),
	}))
}
