package broadcast_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"attune/broadcast"
	"attune/wire"
)

// Next sleeps until there is something, and then brings all of it, appended.
func TestSubscriber_Next_Waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 10})
		s := connect(t, h)
		subscribe(t, s, "entity:execution:1")
		drain(t, s)
		kept := wire.NewFrame(wire.Pong{})
		var got []*wire.Frame
		var err error
		returned := false
		var wg sync.WaitGroup
		wg.Go(func() {
			got, err = s.Next(t.Context(), []*wire.Frame{kept})
			returned = true
		})
		synctest.Wait()
		h.Publish(execution(2)) // not for it
		synctest.Wait()
		if returned {
			t.Fatalf("next returned %v and %v with nothing to deliver", got, err)
		}
		h.Publish(execution(1))
		wg.Wait()
		if err != nil || len(got) != 2 || got[0] != kept {
			t.Errorf("got %v and %v, want the notification behind what was there", got, err)
		}
	})
}

func TestSubscriber_Next_Wakes(t *testing.T) {
	cause := errors.New("server going away")
	for name, tc := range map[string]struct {
		wake func(*broadcast.Hub, *broadcast.Subscriber, context.CancelCauseFunc)
		err  error
	}{
		"Publish": {func(h *broadcast.Hub, _ *broadcast.Subscriber, _ context.CancelCauseFunc) { h.Publish(execution(1)) }, nil},
		"Gap": {func(h *broadcast.Hub, _ *broadcast.Subscriber, _ context.CancelCauseFunc) {
			h.Gap(wire.GapSourceOverflow)
		}, nil},
		"SetMode": {func(h *broadcast.Hub, _ *broadcast.Subscriber, _ context.CancelCauseFunc) { h.SetMode(wire.ModeLive) }, nil},
		"Send":    {func(_ *broadcast.Hub, s *broadcast.Subscriber, _ context.CancelCauseFunc) { s.Send(wire.Pong{}) }, nil},
		"Unsubscribe": {func(_ *broadcast.Hub, s *broadcast.Subscriber, _ context.CancelCauseFunc) {
			s.Unsubscribe(wire.Filter{}, wire.Unsubscribed{})
		}, nil},
		"Close":   {func(_ *broadcast.Hub, s *broadcast.Subscriber, _ context.CancelCauseFunc) { s.Close() }, broadcast.ErrClosed},
		"Context": {func(_ *broadcast.Hub, _ *broadcast.Subscriber, cancel context.CancelCauseFunc) { cancel(cause) }, cause},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 10})
				s := connect(t, h)
				subscribe(t, s, "all")
				drain(t, s)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				var got []*wire.Frame
				var err error
				var wg sync.WaitGroup
				wg.Go(func() { got, err = s.Next(ctx, nil) })
				synctest.Wait()
				tc.wake(h, s, cancel)
				wg.Wait()
				if !errors.Is(err, tc.err) || (err == nil) != (len(got) == 1) {
					t.Errorf("got %v and %v, want one message or %v", got, err, tc.err)
				}
			})
		})
	}
}

// A hub without queues tells at once, also somebody who waits without a filter.
func TestSubscriber_Next_WakesSlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := broadcast.New(broadcast.Options{QueueSize: 0, WindowSize: 10})
		s := connect(t, h)
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { _, err = s.Next(t.Context(), nil) })
		synctest.Wait()
		s.Send(wire.Pong{})
		wg.Wait()
		if !errors.Is(err, broadcast.ErrSlowConsumer) {
			t.Errorf("got %v, want %v", err, broadcast.ErrSlowConsumer)
		}
	})
}

// A transport that waits on its own finds in Ready what Next would find: after
// everything that brings something, a value, until all of it was taken.
func TestSubscriber_Ready(t *testing.T) {
	h := broadcast.New(broadcast.Options{QueueSize: 10, WindowSize: 1000})
	start := h.Cursor().String()
	for id := range int64(1000) {
		h.Publish(execution(id))
	}
	s := connect(t, h)
	resume(t, s, start, "entity:execution:999") // only the very last of what is replayed
	var got []int64
	for len(got) == 0 {
		select {
		case <-s.Ready():
		default:
			t.Fatal("not ready, and not all was taken")
		}
		frames, err := s.Take(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		got = ids(messages(frames))
	}
	diff(t, "replayed", []int64{999}, got)
	drain(t, s)
	for name, wake := range map[string]func(){
		"publish": func() { h.Publish(execution(999)) },
		"send":    func() { s.Send(wire.Pong{}) },
		"close":   s.Close,
	} {
		wake()
		select {
		case <-s.Ready():
		default:
			t.Errorf("not ready after %s", name)
		}
		if _, err := s.Take(t.Context(), nil); err != nil {
			break // it was closed
		}
	}
}

// What is taken at once is bounded, wherever it comes from: the rest stays in the queue,
// which counts it, or in the window or the log.
func TestSubscriber_Take_Bounded(t *testing.T) {
	const total, size, most = 30, 400 << 10, 1 << 20
	large := func(id int64) wire.Notification {
		n := execution(id)
		n.Payload = fmt.Appendf(nil, `"%s"`, strings.Repeat("x", size))
		return n
	}
	for name, window := range map[string]int{"queue": 1, "window": total, "log": 1} {
		t.Run(name, func(t *testing.T) {
			log := new(history)
			h := broadcast.New(broadcast.Options{QueueSize: 2 * total, WindowSize: window, Backlog: log})
			h.Restart("log", 0, wire.GapCursorUnknown)
			s := connect(t, h)
			if name == "queue" {
				subscribe(t, s, "all")
			}
			for id := range int64(total) {
				h.PublishLogged(log.append(large(id)))
			}
			if name != "queue" {
				resume(t, s, at(0), "all")
			}
			var got []int64
			for len(got) < total {
				frames, err := s.Next(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				bytes := 0
				for _, frame := range frames {
					bytes += len(frame.JSON())
				}
				if bytes > most+2*size {
					t.Fatalf("%d bytes at once", bytes)
				}
				got = append(got, ids(messages(frames))...)
			}
			diff(t, "received", upTo(0, total-1), got)
		})
	}
}
