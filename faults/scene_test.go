package faults_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"attune/attunetest"
	"attune/faults"
	"attune/pg/pgtest"
)

// Caps of a server under test. The race detector multiplies what a process takes.
const (
	queueBytes   = 4 << 20
	residentCap  = 512 << 20
	residentRace = 2 << 30
)

// patientCanary is for scenarios in which nothing happens between server and database:
// on a busy machine a canary may be late, and where it is, listen tells a gap.
const patientCanary = "ATTUNE_CANARY_INTERVAL=30s"

// scene is a server under test with its database, its clients and those who write.
type scene struct {
	t        *testing.T
	name     string
	db       *database
	server   *server
	clients  []*client
	others   []*client // that come and go, and are not waited for
	seams    int
	noGaps   bool
	note     string
	resident int64  // cap of the server's memory; 0: the usual one
	binary   string // "": the one that is built as these tests are
	// found are violations that the history does not show.
	found []faults.Violation

	injected atomic.Int64
	stop     context.CancelFunc
	running  sync.WaitGroup
	sampled  func() []faults.Sample // nil: samples are complete
	samples  []faults.Sample
}

// each runs a scenario for both sources.
func each(t *testing.T, run func(t *testing.T, source string)) {
	t.Helper()
	for _, source := range []string{sourceListen, sourceLog} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			run(t, source)
		})
	}
}

// newScene returns a scene on a database of its own, without server.
func newScene(t *testing.T, source string) *scene {
	t.Helper()
	return sceneOn(t, source, pgtest.Database(t))
}

func sceneOn(t *testing.T, source, url string) *scene {
	t.Helper()
	s := &scene{t: t, name: t.Name(), db: newDatabase(t, source, url), noGaps: source == sourceLog}
	return s
}

// serve starts the server; through is the URL by which it reaches the database.
func (s *scene) serve(through string, env ...string) {
	s.t.Helper()
	binary := s.binary
	if binary == "" {
		binary = attunetest.Binary(s.t)
	}
	s.server = newServer(s.t, binary, append([]string{
		"DATABASE_URL=" + through, "ATTUNE_SOURCE=" + s.db.source, "ATTUNE_WINDOW_SIZE=20000",
		fmt.Sprintf("ATTUNE_QUEUE_BYTES=%d", queueBytes), "ATTUNE_QUEUE_SIZE=20000",
	}, env...)...)
	s.sampled = s.server.sample()
}

// follow starts clients of all kinds and waits until they are subscribed.
func (s *scene) follow(url string) {
	s.t.Helper()
	s.add(clientsOf(s.t, url)...)
	s.subscribed()
}

// clientsOf returns clients of all kinds; the last one is the product's own.
func clientsOf(t *testing.T, url string) []*client {
	t.Helper()
	all := []*client{
		newClient(t, "all 1", overWS, url, "all"),
		newClient(t, "all 2", overSSE, url, "all"),
		newClient(t, "entity 3", overWS, url, "entity:orders:1", "entity_type:fence", "entity:orders:2"),
		newClient(t, "user 4", overSSE, url, "user:1", "entity:orders:4", "entity_type:fence"),
		newClient(t, "type 5", overWS, url, "notification_type:"+channel),
		newClient(t, "churn 6", overWS, url, "entity_type:fence", "entity:orders:0"),
		newClient(t, "ours 7", ours, url, "entity_type:orders", "entity_type:fence"),
	}
	all[5].churn = true
	return all
}

// add starts clients.
func (s *scene) add(clients ...*client) {
	if s.stop == nil {
		var ctx context.Context
		ctx, s.stop = context.WithCancel(context.WithoutCancel(s.t.Context()))
		s.t.Cleanup(func() {
			s.stop()
			s.running.Wait()
		})
		s.clients = append(s.clients, clients...)
		for _, c := range clients {
			s.running.Go(func() { c.run(ctx) })
		}
		return
	}
	s.t.Fatal("clients are added at once")
}

// subscribed waits until every client is.
func (s *scene) subscribed() {
	s.t.Helper()
	for _, c := range s.clients {
		if !c.await(patience, func() bool { return c.acked }) {
			s.t.Errorf("client %s is not subscribed", c.record.Name)
		}
	}
}

// fault counts a fault and does it.
func (s *scene) fault(inject func()) {
	s.injected.Add(1)
	inject()
}

// finish waits until everybody has everything, and has the history checked.
func (s *scene) finish() {
	s.t.Helper()
	s.server.ready()
	s.subscribed()
	// A client that was just on its way back may have a gap for the first one.
	for attempt, all := 0, false; !all && attempt < 5; attempt++ {
		fence := s.db.fence()
		all = true
		for _, c := range s.clients {
			all = all && c.awaitFence(fence)
		}
	}
	for _, c := range s.clients {
		c.complete()
	}
	if s.sampled != nil {
		s.samples = s.sampled()
	}
	if s.stop != nil {
		s.stop()
		s.running.Wait()
	}
	commits, found := s.db.commits()
	history := faults.History{Commits: commits, NoGaps: s.noGaps}
	for _, c := range slices.Concat(s.clients, s.others) {
		history.Clients = append(history.Clients, c.record)
		for _, failure := range c.failures {
			s.t.Errorf("client %s: %s", c.record.Name, failure)
		}
	}
	report := faults.Check(history)
	report.Violations = append(report.Violations, s.found...)
	report.Violations = append(report.Violations, found...)
	limit := int64(residentCap)
	switch {
	case s.resident > 0:
		limit = s.resident
	case attunetest.RaceEnabled():
		limit = residentRace
	}
	report.Violations = append(report.Violations, faults.CheckMemory("server", s.samples, faults.Caps{
		Resident: limit, Queue: queueBytes, QueueOver: 2 << 20,
		Messages: s.server.setting("ATTUNE_QUEUE_SIZE") + 100, // the acknowledgements of one call come together
	})...)
	s.tell(report)
}

// tell fails t for what was found and writes down the figures.
func (s *scene) tell(report faults.Report) {
	s.t.Helper()
	for i, v := range report.Violations {
		if i == 20 {
			s.t.Errorf("and %d violations more", len(report.Violations)-i)
			break
		}
		s.t.Error(v)
	}
	for _, c := range s.clients {
		if s.t.Failed() && len(c.said) > 0 {
			s.t.Logf("client %s:\n%s", c.record.Name, strings.Join(c.said, "\n"))
		}
	}
	if report.Delivered == 0 {
		s.t.Error("nothing was delivered: nothing is proved")
	}
	results.add(result{scenario: scenarioName(s.t), source: s.db.source, faults: int(s.injected.Load()), report: report, note: s.note})
}
