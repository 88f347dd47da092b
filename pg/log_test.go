package pg_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"attune/pg"
	"attune/pg/pgtest"
)

// logs collects what is logged.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// records returns the records with that message.
func (l *logs) records(t *testing.T, message string) (found []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if record["msg"] == message {
			found = append(found, record)
		}
	}
	return found
}

func TestListener_Heartbeat(t *testing.T) {
	url := pgtest.Database(t)
	pool, sink, out := connect(t, url), newRecorder(), &logs{}
	const idle = 300 * time.Millisecond
	began := time.Now()
	// Canaries pass all the time: they must not count as notifications.
	start(t, pg.ListenerConfig{URL: url, Pool: pool, HeartbeatInterval: idle, CanaryInterval: idle / 2, Logger: out.logger()}, sink)
	beats := func() int { return len(out.records(t, "listener heartbeat")) }
	eventually(t, "two heartbeats", func() bool { return beats() == 2 })
	if took := time.Since(began); took < 2*idle {
		t.Errorf("two heartbeats within %s", took)
	}

	// The connection is as good as before.
	notify(t, pool, 1)
	sink.await(t, 1, 1)
	last := time.Now()
	count := beats()
	eventually(t, "another heartbeat", func() bool { return beats() > count })
	if quiet := time.Since(last); count == 2 && quiet < idle*9/10 {
		t.Errorf("heartbeat %s after a notification", quiet)
	}
	if level := out.records(t, "listener heartbeat")[0]["level"]; level != "INFO" {
		t.Errorf("level %s", level)
	}
}

func TestListener_Skips(t *testing.T) {
	url := pgtest.Database(t)
	pool, sink, out := connect(t, url), newRecorder(), &logs{}
	l := start(t, pg.ListenerConfig{URL: url, Pool: pool, Logger: out.logger()}, sink)
	const flood = 500
	_, err := pool.Exec(t.Context(), `SELECT pg_notify('execution_created', 'topsecret ' || i) FROM generate_series(1, $1::int) i`, flood)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `SELECT pg_notify('execution_created', '{"entity_type":"topsecret"}')`); err != nil {
		t.Fatal(err)
	}
	notify(t, pool, 1)

	want := []string{"mode live", "notification execution 1"}
	if diff := cmp.Diff(want, sink.await(t, 0, 2)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[pg.SkipReason]uint64{pg.SkipInvalidJSON: flood, pg.SkipEntityID: 1}, l.Stats().Skipped); diff != "" {
		t.Error(diff)
	}
	records := out.records(t, "notification skipped")
	if len(records) < 2 || len(records) > 6 {
		t.Errorf("%d log lines about %d skips, want one for each reason and second", len(records), flood+1)
	}
	for _, r := range records {
		if r["channel"] != "execution_created" || r["reason"] == "" || r["level"] != "WARN" {
			t.Error(r)
		}
	}
	if strings.Contains(out.text.String(), "topsecret") {
		t.Error("the content of a notification was logged")
	}
}

func TestListener_Stats(t *testing.T) {
	url := pgtest.Database(t)
	pool, sink := connect(t, url), newRecorder()
	l := pg.NewListener(pg.ListenerConfig{URL: url, Pool: pool}, sink)
	if s := l.Stats(); s.Live || s.Problem == "" || !s.LastCanary.IsZero() {
		t.Errorf("before Run: %+v", s)
	}
	began := time.Now()
	l = start(t, pg.ListenerConfig{URL: url, Pool: pool, Channels: []string{"execution_created"}}, sink)
	notify(t, pool, 1)
	sink.await(t, 1, 1)
	s := l.Stats()
	t.Logf("canary came back after %.1f ms", s.CanarySeconds*1000)
	if !s.Live || s.Problem != "" || s.LastCanary.Before(began) || s.BackendPID == 0 || s.CanarySeconds <= 0 || s.CanarySeconds > 5 {
		t.Errorf("%+v", s)
	}
	encoded, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(encoded, &members); err != nil {
		t.Fatal(err)
	}
	for _, measured := range []string{"canary_seconds", "last_canary", "backend_pid"} {
		if _, ok := members[measured]; !ok {
			t.Errorf("no %q in %s", measured, encoded)
		}
		delete(members, measured)
	}
	want := map[string]any{
		"live": true, "problem": "", "queue_usage": 0.0, "reconnects": 0.0, "channels": []any{"execution_created"},
		"notifications": map[string]any{"execution_created": 1.0}, "skipped": map[string]any{},
	}
	if diff := cmp.Diff(want, members); diff != "" {
		t.Error(diff)
	}
}
