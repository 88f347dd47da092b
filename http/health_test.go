package http_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"attune/broadcast"
	attunehttp "attune/http"
	"attune/web"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	var problem atomic.Value
	problem.Store("")
	s := start(t, func(cfg *setup) {
		cfg.Source = func() attunehttp.SourceStats {
			text, _ := problem.Load().(string)
			return attunehttp.SourceStats{Source: "listen", Live: text == "", Problem: text}
		}
	})
	equal(t, "livez", s.get("/livez").want(200).object(), map[string]any{"status": "alive"})
	for _, path := range []string{"/readyz", "/health"} {
		problem.Store("")
		a := s.get(path).want(200)
		equal(t, path, a.object(), map[string]any{"status": "ready"})
		equal(t, "caching", a.header.Get("Cache-Control"), "no-store")
		problem.Store("the canary is overdue by 7s")
		a = s.get(path)
		a.problem(503, "not_ready", "the canary is overdue by 7s")
		equal(t, "caching", a.header.Get("Cache-Control"), "no-store")
		s.get("/livez").want(200)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.welcomed("/ws?filter=all").next()
	cursor := s.publish(1, 2)
	got := s.get("/stats").want(200).object()
	equal(t, "top", []any{got["version"], got["draining"], got["executions"]}, []any{"test", false, "none"})
	equal(t, "source", got["source"].(map[string]any)["source"], any("listen"))
	hub := got["hub"].(map[string]any)
	equal(t, "hub", []any{hub["mode"], hub["cursor"], hub["subscribers"], hub["retained"]}, []any{"live", cursor, 1.0, 2.0})
	for _, name := range []string{"queued", "queued_most", "queued_bytes", "queued_bytes_most"} {
		if _, ok := hub[name].(float64); !ok {
			t.Errorf("%s is %v", name, hub[name])
		}
	}
	equal(t, "connections", got["connections"], any(map[string]any{"ws": 1.0, "sse": 0.0, "longpoll": 0.0}))
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *setup) {
		cfg.Source = func() attunehttp.SourceStats {
			return attunehttp.SourceStats{
				Live: true, CanarySeconds: 0.25, Reconnects: 3, QueueUsage: 0.5,
				Log:           &attunehttp.LogStats{Head: 120, Pruned: 20, Lag: 4, Losses: 5, Polling: true},
				Notifications: map[string]uint64{"execution_created": 7}, Skipped: map[string]uint64{"invalid_json": 2},
			}
		}
	})
	for series, want := range map[string]float64{
		`attune_notifications_total{notification_type="execution_created"}`: 7,
		`attune_notifications_skipped_total{reason="invalid_json"}`:         2,
		`attune_deliveries_total{transport="ws"}`:                           0,
		`attune_deliveries_total{transport="sse"}`:                          0,
		`attune_connections{transport="ws"}`:                                0,
		`attune_connections{transport="sse"}`:                               0,
		`attune_connections{transport="longpoll"}`:                          0,
		`attune_gaps_total{reason="listener_reconnected"}`:                  0,
		`attune_gaps_total{reason="cursor_expired"}`:                        0,
		`attune_gaps_total{reason="cursor_unknown"}`:                        0,
		`attune_gaps_total{reason="cursor_invalid"}`:                        0,
		`attune_gaps_total{reason="source_overflow"}`:                       0,
		`attune_slow_consumers_total{transport="ws"}`:                       0,
		`attune_slow_consumers_total{transport="sse"}`:                      0,
		`attune_canary_seconds`:                                             0.25,
		`attune_source_live`:                                                1,
		`attune_listener_reconnects_total`:                                  3,
		`attune_pg_notification_queue_usage`:                                0.5,
		`attune_log_head`:                                                   120,
		`attune_log_lag`:                                                    4,
		`attune_log_retained`:                                               100,
		`attune_log_losses_total`:                                           5,
		`attune_log_polling`:                                                1,
	} {
		equal(t, series, s.metric(series), want)
	}

	t.Run("JunkMakesNoSeries", func(t *testing.T) {
		s := s.in(t)
		junk := func(n int) {
			for i := range n {
				s.get(fmt.Sprintf("/junk%d", i))
				s.get(fmt.Sprintf("/executions/%d", i))
				s.get(fmt.Sprintf("/executions/1/junk%d", i))
				s.do(fmt.Sprintf("JUNK%d", i), "/livez", "")
				s.get("/livez", "Origin", fmt.Sprintf("https://junk%d.example", i))
				s.get(fmt.Sprintf("/events?filter=junk%d", i))
			}
		}
		ours := regexp.MustCompile(`(?m)^attune_[^ ]+`)
		series := func() []string {
			found := ours.FindAllString(s.get("/metrics").body, -1)
			slices.Sort(found)
			return found
		}
		series() // its own request is a series
		junk(2)
		few := series()
		junk(20)
		equal(t, "series", series(), few)
		if i := slices.IndexFunc(few, func(name string) bool { return strings.Contains(strings.ToLower(name), "junk") }); i >= 0 {
			t.Errorf("series %s", few[i])
		}
	})
}

func TestMetrics_Elsewhere(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *setup) { cfg.MetricsElsewhere = true })
	s.get("/metrics").problem(404, "not_found")

	server := attunehttp.New(attunehttp.Config{
		Hub: broadcast.New(broadcast.Options{}), Source: func() attunehttp.SourceStats { return attunehttp.SourceStats{} },
		Page: web.Files(), Logger: slog.New(slog.DiscardHandler),
	})
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var ended error
	wg.Go(func() { ended = server.RunMetrics(ctx, ln) })
	m := *s
	m.url = "http://" + ln.Addr().String()
	equal(t, "live", m.metric("attune_source_live"), 0)
	equal(t, "log", m.metric("attune_log_head"), -1) // there is none
	m.get("/livez").problem(404, "not_found")
	m.do("POST", "/metrics", "").problem(405, "method_not_allowed")
	m.do("HEAD", "/metrics", "").want(200)
	cancel()
	wg.Wait()
	if ended != nil {
		t.Error(ended)
	}
}
