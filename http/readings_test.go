package http_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"attune/wire"
)

// TestReadings: an answer is never older than a notification that was received before
// it was asked for, however many others ask for the same, and whoever says no-cache
// reads what was written.
func TestReadings(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	id := k.insert(wire.StatusRunning)
	stop := make(chan struct{})
	done := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = k.try(http.MethodGet, path(id), "")
				}
			}
		}()
	}
	stream := k.opened("?filter=entity:execution:" + strconv.FormatInt(id, 10))
	for i := range 100 {
		want := []wire.Status{wire.StatusCanceling, wire.StatusRunning}[i%2]
		k.update(id, want)
		if i%4 < 2 {
			if got := k.get(path(id), "Cache-Control", "no-cache").want(200).object()["status"]; got != string(want) {
				t.Errorf("no-cache: read %v after %s was written", got, want)
			}
		}
		stream.block()
		if got := k.get(path(id)).want(200).object()["status"]; got != string(want) {
			t.Errorf("read %v after %s was told", got, want)
		}
	}
	close(stop)
	for range 4 {
		<-done
	}
}

// What the hub does not hear of is seen all the same, a moment later.
func TestReadings_WithoutNotification(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	id := k.insert(wire.StatusRunning)
	k.get(path(id)).want(200)
	k.failSilently(id)
	eventually(t, "the change", func() bool { return strings.Contains(k.get(path(id)).want(200).body, `"failed"`) })
}

// Those who ask for a row that does not change cost the database next to nothing.
func TestReadings_Shared(t *testing.T) {
	t.Parallel()
	k := startStack(t, false)
	id := k.insert(wire.StatusRunning)
	before := k.reads.n.Load()
	const asked = 2000
	first := k.get(path(id)).want(200)
	for range asked {
		a := k.get(path(id)).want(200)
		equal(t, "body", a.body, first.body)
		equal(t, "ETag", a.header.Get("ETag"), first.header.Get("ETag"))
	}
	reads := k.reads.n.Load() - before
	t.Logf("%d answers, %d reads", asked, reads)
	if reads > asked/10 {
		t.Errorf("%d answers cost %d reads", asked, reads)
	}
}

// Cancelling is seen by whoever asks afterwards, whatever was known before.
func TestReadings_Cancel(t *testing.T) {
	t.Parallel()
	k := startStack(t, true)
	for range 20 {
		id := k.do(http.MethodPost, "/executions", `{"action_ref":"core.sleep","parameters":{"seconds":600}}`).want(201).header.Get("Location")
		k.get(id).want(200)
		cancelled := k.do(http.MethodPost, id+"/cancel", "").want(202).object()["status"]
		if got := k.get(id).want(200).object()["status"]; got != cancelled && got != "cancelled" {
			t.Errorf("read %v after %v", got, cancelled)
		}
	}
}
