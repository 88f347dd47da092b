package wire_test

import (
	"encoding/json"
	"testing"
	"time"

	"attune/wire"
)

func benchmarkNotification() wire.Notification {
	return wire.Notification{
		NotificationType: "execution_status_changed", EntityType: "execution", EntityID: wire.IntID(42), UserID: new(int64(7)),
		Payload: json.RawMessage(`{"id":42,"action_ref":"core.echo","parent":null,"executor":7,"status":"running",` +
			`"started_at":"2026-03-03T19:42:41.123456+00:00","created":"2026-03-03T19:42:40.9+00:00"}`),
		Timestamp: time.Date(2026, 3, 3, 19, 42, 41, 123456000, time.UTC), Cursor: wire.Cursor{Epoch: "k3f9", Offset: 1042},
	}
}

func BenchmarkEncodeNotification(b *testing.B) {
	n := benchmarkNotification()
	b.ReportAllocs()
	for b.Loop() {
		wire.EncodeServerMessage(n)
	}
}

func BenchmarkFrame_WebSocket(b *testing.B) {
	n := benchmarkNotification()
	b.ReportAllocs()
	for b.Loop() {
		wire.NewNotificationFrame(n).WebSocket()
	}
}

func BenchmarkFrame_SSE(b *testing.B) {
	n := benchmarkNotification()
	b.ReportAllocs()
	for b.Loop() {
		wire.NewNotificationFrame(n).SSE()
	}
}

func BenchmarkParseFilter(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.ParseFilter("entity:execution:42"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFilter_Matches(b *testing.B) {
	n := benchmarkNotification()
	f := filter(b, "entity:execution:42")
	b.ReportAllocs()
	for b.Loop() {
		if !f.Matches(&n) {
			b.Fatal("no match")
		}
	}
}

func BenchmarkDecodeClientMessage(b *testing.B) {
	frame := []byte(`{"type":"subscribe","filter":"entity:execution:42","cursor":"k3f9.1042"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.DecodeClientMessage(frame); err != nil {
			b.Fatal(err)
		}
	}
}
