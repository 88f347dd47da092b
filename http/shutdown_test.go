package http_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"attune/http/wstest"
	"attune/wire"
)

const drain = 5 * time.Second

// shutdown is what a server did, and when, after it was told to stop.
type shutdown struct {
	began time.Time
	ended chan struct{}
	took  time.Duration // valid after ended
	err   error
}

// shutDown tells s to stop, in a bubble.
func (s *server) shutDown() *shutdown {
	d := &shutdown{began: time.Now(), ended: make(chan struct{})}
	go func() {
		defer close(d.ended)
		d.err = s.stop()
		d.took = time.Since(d.began)
	}()
	synctest.Wait()
	return d
}

// within checks that Run returned in time.
func (d *shutdown) within(tb testing.TB, most time.Duration) {
	tb.Helper()
	<-d.ended
	if d.err != nil || d.took > most {
		tb.Errorf("Run returned %v after %s, want nil within %s", d.err, d.took, most)
	}
}

func withDrain(cfg *setup) { cfg.Drain = drain }

func TestShutdown_Stages(t *testing.T) {
	inBubble(t, func(s *server) {
		t := s.t
		c, st := s.patient("/ws?filter=all"), s.eventsUnread()
		c.text()
		c.text()
		type goodbye struct {
			transport string
			after     time.Duration
		}
		goodbyes := make(chan goodbye, 2)
		s.get("/readyz").want(200)

		d := s.shutDown()
		go func() {
			if code := c.closed(); code != websocket.StatusGoingAway {
				t.Errorf("close code %d", code)
			}
			goodbyes <- goodbye{"ws", time.Since(d.began)}
			c.frame(true, wstest.Close, "\x03\xe9")
		}()
		go func() {
			st.bye("server_shutdown")
			goodbyes <- goodbye{"sse", time.Since(d.began)}
		}()
		// Whoever looks at /readyz has 200 ms to stop sending.
		pass(199 * time.Millisecond)
		s.get("/readyz").problem(503, "not_ready", "shutting down")
		s.get("/health").problem(503, "not_ready", "shutting down")
		s.get("/livez").want(200)
		equal(t, "draining", s.get("/stats").object()["draining"], any(true))
		s.get("/events").problem(503, "not_ready", "shutting down")
		s.raw(upgrade("/ws")).answer().problem(503, "not_ready", "shutting down")
		s.publish(1) // is delivered: the streams are as good as ever
		equal(t, "goodbyes", len(goodbyes), 0)
		for range 2 {
			if g := <-goodbyes; g.after < 200*time.Millisecond || g.after > drain {
				t.Errorf("%s: goodbye after %s", g.transport, g.after)
			}
		}
		d.within(t, drain)
	}, withDrain)
}

func TestShutdown_Many(t *testing.T) {
	inBubble(t, func(s *server) {
		t := s.t
		const each = 50
		goodbyes := make(chan time.Duration, 2*each)
		begun := make(chan time.Time, 1)
		for range each {
			c, st := s.patient("/ws"), s.eventsUnread()
			c.text()
			go func() {
				if code := c.closed(); code != websocket.StatusGoingAway {
					t.Errorf("close code %d", code)
				}
				goodbyes <- time.Since(<-begun)
				c.frame(true, wstest.Close, "\x03\xe9")
			}()
			go func() {
				st.bye("server_shutdown")
				goodbyes <- time.Since(<-begun)
			}()
		}
		d := s.shutDown()
		go func() {
			for range 2 * each {
				begun <- d.began
			}
		}()
		for range 2 * each {
			if after := <-goodbyes; after < 200*time.Millisecond || after > 200*time.Millisecond+drain {
				t.Errorf("goodbye after %s", after)
			}
		}
		d.within(t, drain+2*time.Second)
	}, withDrain)
}

// TestShutdown_Spread: clients are told one after the other, over most of the drain, so
// that they do not come back all at once; and the last one within the drain, however
// short it is.
func TestShutdown_Spread(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ drain, spread time.Duration }{
		"5s": {5 * time.Second, 3500 * time.Millisecond}, "1s": {time.Second, 600 * time.Millisecond},
		"500ms": {500 * time.Millisecond, 200 * time.Millisecond}, "200ms": {200 * time.Millisecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(s *server) {
				t := s.t
				const each = 20
				goodbyes := make(chan time.Time, 2*each)
				for range each {
					c, st := s.patient("/ws"), s.eventsUnread()
					c.text()
					go func() {
						c.closed()
						goodbyes <- time.Now()
						c.frame(true, wstest.Close, "\x03\xe9")
					}()
					go func() {
						st.bye("server_shutdown")
						goodbyes <- time.Now()
					}()
				}
				d := s.shutDown()
				var after []time.Duration
				for range 2 * each {
					after = append(after, (<-goodbyes).Sub(d.began))
				}
				slices.Sort(after)
				first, half, last := after[0], after[each], after[2*each-1]
				if first < 200*time.Millisecond || last > tt.drain || last-first < tt.spread || half-first < tt.spread/3 || last-half < tt.spread/3 {
					t.Errorf("goodbyes after %v, want them spread over %s, between 200ms and %s", after, tt.spread, tt.drain)
				}
				d.within(t, tt.drain+2*time.Second)
			}, func(cfg *setup) { cfg.Drain = tt.drain })
		})
	}
}

// TestShutdown_Deaf: whatever clients do or leave undone, Run returns in time, and
// the bubble sees to it that nothing goes on after it.
func TestShutdown_Deaf(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(s *server){
		"SocketNeverAnswers": func(s *server) {
			c := s.patient("/ws")
			c.text()
			go c.gone()
		},
		"SocketNeverReads": func(s *server) { s.patient("/ws?filter=all").text() },
		"SocketInTheMiddleOfAWrite": func(s *server) {
			s.patient("/ws?filter=all").text()
			s.publish(1)
		},
		"SocketStopsInAFrame": func(s *server) {
			c := s.patient("/ws")
			c.text()
			c.write(wstest.FrameOfLength(wstest.Fin|wstest.Text, 100, []byte("begun")))
			go c.gone()
		},
		"StreamNeverReads":     func(s *server) { s.eventsUnread() },
		"StreamReadsNoHeaders": func(s *server) { s.raw("GET /events HTTP/1.1\r\nHost: attune\r\n\r\n") },
		"StreamInTheMiddleOfAWrite": func(s *server) {
			s.eventsUnread()
			s.publish(1)
		},
		"SaysNothing":        func(s *server) { s.raw("") },
		"HalfARequest":       func(s *server) { s.raw("GET /livez HTT") },
		"HalfABody":          func(s *server) { s.raw("POST /executions HTTP/1.1\r\nHost: attune\r\nContent-Length: 100\r\n\r\n{") },
		"NeverReadsAnAnswer": func(s *server) { s.raw("GET /livez HTTP/1.1\r\nHost: attune\r\n\r\n") },
		"Idle":               func(s *server) { s.get("/livez") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(s *server) {
				open(s)
				synctest.Wait()
				s.shutDown().within(s.t, drain+2*time.Second)
			}, withDrain)
		})
	}
}

// TestShutdown_LongPoll: who waits is answered, with what there is.
func TestShutdown_LongPoll(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	id := k.insert(wire.StatusRunning)
	etag := k.get(path(id)).header.Get("ETag")
	plain, matching := make(chan answer, 1), make(chan answer, 1)
	poll := path(id) + "?wait=5m&until=terminal"
	k.ask(plain, http.MethodGet, poll, "")
	k.ask(matching, http.MethodGet, poll, "", "If-None-Match", etag)
	k.connections("longpoll", 2)
	begun := time.Now()
	if err := k.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 4*time.Second { // Drain and two seconds
		t.Errorf("took %s", took)
	}
	equal(t, "status", (<-plain).want(200).object()["status"], any("running"))
	equal(t, "matching", (<-matching).status, 304)
}

// TestShutdown_Post: what was accepted is finished, and what comes later is refused before
// anything is done, so that it may be tried elsewhere.
func TestShutdown_Post(t *testing.T) {
	t.Parallel()
	for name, post := range map[string]struct {
		path, body string
		status     int
	}{
		"Create": {"/executions", `{"action_ref":"core.noop"}`, 201},
		"Cancel": {path(7) + "/cancel", "", 202},
	} {
		t.Run(name, func(t *testing.T) {
			actions := held{called: make(chan struct{}, 1), let: make(chan struct{})}
			inBubble(t, func(s *server) {
				t := s.t
				actions.called, actions.let = make(chan struct{}, 1), make(chan struct{})
				accepted := make(chan answer, 1)
				s.ask(accepted, http.MethodPost, post.path, post.body)
				<-actions.called
				d := s.shutDown()
				a := s.do(http.MethodPost, post.path, post.body)
				a.problem(503, "not_ready", "shutting down")
				equal(t, "Retry-After", a.header.Get("Retry-After"), "5")
				pass(3 * time.Second) // in the middle of the drain
				equal(t, "called", len(actions.called), 0)
				close(actions.let)
				(<-accepted).want(post.status)
				d.within(t, drain)
			}, withDrain, func(cfg *setup) { cfg.Executions, cfg.Actions = &executions{}, &actions })
		})
	}
}

// TestRun_ListenerFails: Run says so, and leaves nothing behind.
func TestRun_ListenerFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ln := newMemory()
		s := serve(t, ln, withDrain)
		s.fails = true
		c, st, idle := s.patient("/ws"), s.eventsUnread(), s.raw("")
		c.text()
		s.get("/livez")
		_ = ln.Close()
		st.bye("server_shutdown")
		c.gone()
		idle.gone()
		if err := s.stop(); err == nil || errors.Is(err, http.ErrServerClosed) || !strings.Contains(err.Error(), "serve on memory") {
			t.Errorf("Run returned %v", err)
		}
	})
}
