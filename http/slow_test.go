package http_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"attune/broadcast"
	"attune/http/wstest"
	"attune/wire"
)

// small is a hub with queues that are quickly full.
func small(cfg *setup) { cfg.QueueSize = 8 }

// large is a notification with a payload of that size.
func large(id int64, size int) wire.Notification {
	n := notification(id)
	n.Payload = json.RawMessage(`{"pad":"` + strings.Repeat("x", size) + `"}`)
	return n
}

func TestWebSocket_SlowConsumer(t *testing.T) {
	t.Parallel()

	t.Run("Told4408", func(t *testing.T) {
		inBubble(t, func(s *server) {
			t := s.t
			c := s.patient("/ws?filter=all")
			c.text()
			c.text()
			for id := range int64(20) {
				s.publish(id)
				synctest.Wait() // the writer waits for the client now
			}
			pass(4 * time.Second) // the client pauses, not too long
			equal(t, "delivered before", c.text()["entity_id"], any(0.0))
			equal(t, "close code", int(c.closed()), 4408)
			_ = c.conn.Close()
			s.connections("ws", 0)
			equal(t, "slow consumers", s.metric(`attune_slow_consumers_total{transport="ws"}`), 1)
		}, small)
	})

	t.Run("CutWhenItNeverReads", func(t *testing.T) {
		inBubble(t, func(s *server) {
			t := s.t
			c := s.patient("/ws?filter=all")
			c.text()
			c.text()
			s.publish(1)
			s.cutAfter(5 * time.Second)
			equal(t, "slow consumers", s.metric(`attune_slow_consumers_total{transport="ws"}`), 1)
		})
	})

	t.Run("CloseFrameNotTaken", func(t *testing.T) {
		inBubble(t, func(s *server) {
			c := s.patient("/ws")
			c.text()
			c.frame(true, wstest.Binary, "x") // answered by a close frame, which is not read
			s.cutAfter(5 * time.Second)
		})
	})

	t.Run("ReadsSlowlyButReads", func(t *testing.T) {
		inBubble(t, func(s *server) {
			t := s.t
			c := s.patient("/ws?filter=all")
			c.text()
			c.text()
			s.hub.Publish(large(1, 256<<10))
			c.r.Reset(&slowReader{r: c.conn, bytesPerSecond: 20 << 10})
			equal(t, "id", c.text()["entity_id"], any(1.0))
		})
	})

	t.Run("PingsWithoutReading", func(t *testing.T) {
		inBubble(t, func(s *server) {
			t := s.t
			c := s.patient("/ws")
			c.text()
			for range 100 {
				if _, err := c.conn.Write(wstest.Frame(wstest.Fin|wstest.Text, []byte(`{"type":"ping"}`))); err != nil {
					break
				}
			}
			pass(10 * time.Second)
			equal(t, "streams", s.connectionsNow(), 0)
		}, small)
	})
}

func TestEvents_SlowConsumer(t *testing.T) {
	t.Parallel()

	t.Run("ToldBye", func(t *testing.T) {
		inBubble(t, func(s *server) {
			t := s.t
			st := s.eventsUnread()
			for id := range int64(20) {
				s.hub.Publish(large(id, 8<<10))
				synctest.Wait()
			}
			pass(4 * time.Second) // the client pauses, not too long
			st.bye("slow_consumer")
			equal(t, "slow consumers", s.metric(`attune_slow_consumers_total{transport="sse"}`), 1)
		}, small)
	})

	t.Run("CutWhenItNeverReads", func(t *testing.T) {
		inBubble(t, func(s *server) {
			t := s.t
			s.eventsUnread()
			s.publish(1)
			s.cutAfter(5 * time.Second)
			equal(t, "slow consumers", s.metric(`attune_slow_consumers_total{transport="sse"}`), 1)
		})
	})

	t.Run("ReadsSlowlyButReads", func(t *testing.T) {
		inBubble(t, func(s *server) {
			t := s.t
			st := s.eventsUnread()
			s.hub.Publish(large(1, 256<<10))
			st.slow(20 << 10)
			equal(t, "ids", st.ids(1), []int64{1})
		})
	})
}

// TestAnswer_NeverRead: who asks and does not read the answer does not stay for ever.
func TestAnswer_NeverRead(t *testing.T) {
	inBubble(t, func(s *server) {
		t := s.t
		for _, path := range []string{"/livez", "/nowhere", "/metrics", "/", "/stats"} {
			conn, err := s.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: attune\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			pass(time.Minute)
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := io.WriteString(conn, "anybody?"); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("%s: the connection stays open", path)
			}
			_ = conn.Close()
		}
	})
}

// TestPublish_NotBlocked: over a network, where buffers hide for long that somebody
// does not read.
func TestPublish_NotBlocked(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *setup) { cfg.Options = broadcast.Options{QueueSize: 64, WindowSize: 16} })
	deaf := s.rawSocket("/ws?filter=all")
	unread := s.raw("GET /events HTTP/1.1\r\nHost: attune\r\n\r\n")
	reader := s.welcomed("/ws?filter=entity:execution:1")
	reader.next()
	follower := s.opened("?filter=entity:execution:1")
	s.connections("ws", 2)
	s.connections("sse", 2)

	// More than sockets and queues hold. Who reads gets all, at once.
	var longest time.Duration
	for range 20 {
		for range 20 {
			begun := time.Now()
			s.hub.Publish(large(0, 32<<10))
			longest = max(longest, time.Since(begun))
		}
		s.publish(1)
		equal(t, "socket", reader.ids(1), []int64{1})
		equal(t, "stream", follower.ids(1), []int64{1})
	}
	if longest > 3*time.Second { // who waits for a client waits for 5 s
		t.Errorf("Publish took up to %s", longest)
	}
	s.connections("ws", 1)
	s.connections("sse", 1)
	equal(t, "slow sockets", s.metric(`attune_slow_consumers_total{transport="ws"}`), 1)
	equal(t, "slow streams", s.metric(`attune_slow_consumers_total{transport="sse"}`), 1)
	deaf.gone()
	unread.gone()
}

// connectionsNow is how many streams are open.
func (s *server) connectionsNow() int {
	s.t.Helper()
	var n int
	for _, transport := range []string{"ws", "sse"} {
		n += int(s.metric(fmt.Sprintf("attune_connections{transport=%q}", transport)))
	}
	return n
}

// cutAfter checks that the only stream is there until then, and no longer.
func (s *server) cutAfter(d time.Duration) {
	s.t.Helper()
	pass(d - 100*time.Millisecond)
	equal(s.t, "streams before", s.connectionsNow(), 1)
	pass(200 * time.Millisecond)
	equal(s.t, "streams after", s.connectionsNow(), 0)
}

// slowReader reads that much a second, a kilobyte at a time.
type slowReader struct {
	r              io.Reader
	bytesPerSecond int
}

func (s *slowReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b[:min(len(b), 1<<10)])
	pass(time.Second * time.Duration(n) / time.Duration(s.bytesPerSecond))
	return n, err
}
