package http_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/coder/websocket"

	"attune/http/wstest"
)

// ticks is when something happened, after the start.
type ticks struct {
	start time.Time
	at    []time.Duration
}

func (k *ticks) tick() { k.at = append(k.at, time.Since(k.start).Round(time.Second)) }

func TestWebSocket_Keepalive(t *testing.T) {
	t.Parallel()

	t.Run("SilentPeerIsDropped", func(t *testing.T) {
		inBubble(t, func(s *server) {
			t := s.t
			pings := ticks{start: time.Now()}
			c := s.patient("/ws")
			c.text()
			for {
				op, _, err := c.next()
				if err != nil {
					break
				}
				equal(t, "opcode", op, wstest.Ping)
				pings.tick()
			}
			equal(t, "pings", pings.at, []time.Duration{25 * time.Second, 50 * time.Second})
			equal(t, "dropped", time.Since(pings.start).Round(time.Second), 60*time.Second)
			pass(0)
			equal(t, "streams", s.connectionsNow(), 0)
		})
	})

	t.Run("PongsKeepIt", func(t *testing.T) {
		inBubble(t, func(s *server) {
			t := s.t
			pings := ticks{start: time.Now()}
			c := s.patient("/ws")
			c.text()
			for range 20 {
				op, payload, err := c.next()
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "opcode", op, wstest.Ping)
				pings.tick()
				c.frame(true, wstest.Pong, string(payload))
			}
			for i, at := range pings.at {
				equal(t, "ping", at, time.Duration(i+1)*25*time.Second)
			}
		})
	})

	t.Run("AnythingKeepsIt", func(t *testing.T) {
		for name, op := range map[string]byte{"Text": wstest.Text, "Ping": wstest.Ping} {
			t.Run(name, func(t *testing.T) {
				inBubble(t, func(s *server) {
					t := s.t
					start := time.Now()
					c := s.patient("/ws")
					pings := 0
					done := make(chan time.Duration)
					go func() {
						for {
							op, _, err := c.next()
							if err != nil {
								done <- time.Since(start)
								return
							}
							if op == wstest.Ping {
								pings++
							}
						}
					}()
					tick := time.NewTicker(50 * time.Second)
					defer tick.Stop()
					for range 6 { // to 300 s
						<-tick.C
						c.frame(true, op, `{"type":"ping"}`)
					}
					equal(t, "dropped", (<-done).Round(time.Second), 360*time.Second)
					equal(t, "pings", pings, 14)
				})
			})
		}
	})
}

func TestEvents_Keepalive(t *testing.T) {
	inBubble(t, func(s *server) {
		t := s.t
		st := s.opened("")
		comments := ticks{start: time.Now()}
		for range 3 {
			e := st.block()
			equal(t, "block", e, event{Comment: e.Comment})
			comments.tick()
		}
		equal(t, "comments", comments.at, []time.Duration{15 * time.Second, 30 * time.Second, 45 * time.Second})
		_ = st.resp.Body.Close()
	})
}

// TestWebSocket_Goodbye: a peer that does not finish the closing handshake does not
// hold up the connection.
func TestWebSocket_Goodbye(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		last   []byte // what the peer sends after the server's close frame
		within time.Duration
	}{
		"NeverAnswers":   {nil, 5 * time.Second},
		"StopsInAFrame":  {wstest.FrameOfLength(wstest.Fin|wstest.Text, 1000, []byte("begun")), 10 * time.Second},
		"StopsInAHeader": {[]byte{0x81}, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(s *server) {
				t := s.t
				c := s.patient("/ws")
				c.text()
				c.frame(true, wstest.Binary, "x")
				equal(t, "close code", c.closed(), websocket.StatusUnsupportedData)
				start := time.Now()
				c.write(tt.last)
				c.gone()
				if took := time.Since(start); took > tt.within {
					t.Errorf("ended after %s, want %s", took, tt.within)
				}
				pass(0)
				equal(t, "streams", s.connectionsNow(), 0)
			})
		})
	}

	t.Run("NeverEndsItsFrame", func(t *testing.T) {
		inBubble(t, func(s *server) {
			t := s.t
			c := s.patient("/ws")
			c.text()
			start := time.Now()
			c.write(wstest.FrameOfLength(wstest.Fin|wstest.Text, 1<<40, make([]byte, 64<<10+1)))
			equal(t, "close code", fmt.Sprint(c.closed()), "StatusMessageTooBig")
			c.gone()
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("ended after %s", took)
			}
			pass(0)
			equal(t, "streams", s.connectionsNow(), 0)
		})
	})
}
