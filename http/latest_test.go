package http_test

import (
	"encoding/json"
	"fmt"
	"testing"
)

// TestLatest: whoever asked for the latest, and reads nothing for a while, is not ended:
// it gets the last state of each entity, with the number of those that it stands for.
func TestLatest(t *testing.T) {
	t.Parallel()
	for transport, open := range map[string]func(s *server) (next func() map[string]any){
		"ws": func(s *server) func() map[string]any {
			c := s.rawSocket("/ws?filter=all&mode=latest")
			c.text()
			c.text()
			return c.text
		},
		"sse": func(s *server) func() map[string]any {
			st := s.raw("GET /events?mode=latest HTTP/1.1\r\nHost: attune\r\n\r\n").stream()
			return func() map[string]any { return object(s.t, st.block().Data) }
		},
	} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(cfg *setup) { cfg.QueueSize = 16 })
			next := open(s)
			published := 0
			eventually(t, "the socket takes no more", func() bool {
				s.hub.Publish(large(9, 256<<10))
				published++
				return s.hub.Stats().QueuedMost > 8
			})
			const steps, entities = 300, 3
			for step := range steps {
				n := notification(int64(step % entities))
				n.Payload = json.RawMessage(fmt.Sprintf(`{"step":%d}`, step))
				s.hub.Publish(n)
			}
			published += steps

			received, coalesced := 0, 0
			last := make(map[any]any)
			for received+coalesced < published {
				n := next()
				if n["type"] != "notification" {
					t.Fatalf("got %v after %d notifications", n["type"], received)
				}
				received++
				stands, _ := n["coalesced"].(float64)
				coalesced += int(stands)
				last[n["entity_id"]] = n["payload"].(map[string]any)["step"]
			}
			t.Logf("%d received, which stand for %d more", received, coalesced)
			equal(t, "published", received+coalesced, published)
			if coalesced < steps/2 {
				t.Errorf("%d coalesced", coalesced)
			}
			equal(t, "last states", last, map[any]any{0.0: any(297.0), 1.0: any(298.0), 2.0: any(299.0), 9.0: nil})
			equal(t, "slow consumers", s.metric(`attune_slow_consumers_total{transport="`+transport+`"}`), 0)
		})
	}
}
