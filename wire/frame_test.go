package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"attune/wire"
)

// However many connections ask for the event at once, they share one encoding.
func TestFrame_EncodedOnce(t *testing.T) {
	frame := wire.NewFrame(wire.Notification{EntityID: wire.IntID(1), Payload: json.RawMessage(`{}`)})
	var got [8][]byte
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i] = frame.SSE() })
	}
	wg.Wait()
	for _, b := range got {
		if &b[0] != &got[0][0] {
			t.Fatal("the event was encoded twice")
		}
	}
	if a, b := frame.JSON(), frame.JSON(); &a[0] != &b[0] {
		t.Error("the object was encoded twice")
	}
}

// Whoever made a frame of a notification may use its payload's memory for the next one.
func TestFrame_KeepsNothing(t *testing.T) {
	for name, newFrame := range map[string]func(wire.Notification) *wire.Frame{
		"NewFrame":             func(n wire.Notification) *wire.Frame { return wire.NewFrame(n) },
		"NewNotificationFrame": wire.NewNotificationFrame,
	} {
		payload := json.RawMessage(`{"a":1}`)
		frame := newFrame(wire.Notification{EntityID: wire.IntID(1), Payload: payload})
		copy(payload, `{"b":2}`)
		n, ok := frame.Message.(wire.Notification)
		if !ok || string(n.Payload) != `{"a":1}` || !bytes.Contains(frame.JSON(), []byte(`"payload":{"a":1},`)) {
			t.Errorf("%s: payload %s in %s", name, n.Payload, frame.JSON())
		}
	}
}

// Every server message is one event whose data is the frame, and named after its type
// unless it is a notification.
func TestFrame_SSE(t *testing.T) {
	for _, g := range serverGoldens(t) {
		frame := wire.NewFrame(g.message)
		events, err := parseSSE(frame.SSE())
		if err != nil || len(events) != 1 {
			t.Errorf("%s: %d events, %v", g.name, len(events), err)
			continue
		}
		want := typeOf(t, frame.JSON())
		if want == "notification" {
			want = ""
		}
		if events[0].name != want || events[0].data != string(frame.JSON()) {
			t.Errorf("%s: got event %q with data %s", g.name, events[0].name, events[0].data)
		}
	}
}

// event is one event of a stream. hasID tells an absent id from an empty one, which
// would make a browser forget where it was.
type event struct {
	name, id, data string
	hasID          bool
}

// parseSSE reads a stream by the rules of the HTML standard, but refuses what the
// standard lets pass and a server has no reason to send: an unfinished event, an
// unknown field, an event without data.
func parseSSE(b []byte) (events []event, err error) {
	if !utf8.Valid(b) {
		return nil, errors.New("the stream is not UTF-8")
	}
	s := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(b))
	lines := strings.Split(s, "\n")
	if last := lines[len(lines)-1]; last != "" {
		return nil, fmt.Errorf("unfinished line %q", last)
	}
	var current event
	var data []string
	open := false
	for _, line := range lines[:len(lines)-1] {
		if line == "" {
			if data == nil {
				return nil, errors.New("an event without data")
			}
			current.data = strings.Join(data, "\n")
			events = append(events, current)
			current, data, open = event{}, nil, false
			continue
		}
		open = true
		name, value, found := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case !found:
			return nil, fmt.Errorf("field without value %q", line)
		case name == "event":
			current.name = value
		case name == "id" && !strings.Contains(value, "\x00"):
			current.id, current.hasID = value, true
		case name == "data":
			data = append(data, value)
		default:
			return nil, fmt.Errorf("unknown field %q", line)
		}
	}
	if open {
		return nil, errors.New("the last event is not ended by an empty line")
	}
	return events, nil
}
