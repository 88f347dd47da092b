package http

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"attune/broadcast"
	"attune/wire"
)

// pollEvery is how often the rows of all who wait are read while notifications do not
// arrive.
const pollEvery = 2 * time.Second

// polls are the long polls that wait, by execution. One goroutine follows executions
// for all of them, reads those that may have changed, and hands each what it waits for:
// however many wait, a change is one query, and each wakes once.
type polls struct {
	hub *broadcast.Hub

	mu      sync.Mutex
	waiting map[int64]map[chan look]struct{}
	// sub hears of all executions, while somebody waits.
	sub     *broadcast.Subscriber
	changed chan struct{} // receives when sub is another one
}

// look is an execution as it was read, or why it could not be.
type look struct {
	*reading

	err error
}

// add registers a long poll. What is read of its execution from now on comes on the
// channel: the latest that was not taken.
func (p *polls) add(ctx context.Context, id int64) (looks <-chan look, remove func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sub == nil {
		if err := p.subscribe(ctx); err != nil {
			return nil, nil, err
		}
	}
	ch := make(chan look, 1)
	if p.waiting[id] == nil {
		p.waiting[id] = make(map[chan look]struct{})
	}
	p.waiting[id][ch] = struct{}{}
	return ch, func() { p.remove(id, ch) }, nil
}

func (p *polls) remove(id int64, ch chan look) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if delete(p.waiting[id], ch); len(p.waiting[id]) == 0 {
		delete(p.waiting, id)
	}
	if len(p.waiting) == 0 {
		p.unsubscribe()
	}
}

// subscribe is called with p.mu held.
func (p *polls) subscribe(ctx context.Context) error {
	// What is of interest is the row, not what is told of it: the last change is enough.
	sub, _ := p.hub.Connect(broadcast.Latest())
	nothing := func(broadcast.Start) []wire.ServerMessage { return nil }
	if err := sub.Subscribe(ctx, []wire.Filter{onExecutions().Filter}, nil, nothing); err != nil {
		sub.Close()
		return err
	}
	p.sub = sub
	p.signal()
	return nil
}

// unsubscribe is called with p.mu held.
func (p *polls) unsubscribe() {
	if p.sub == nil {
		return
	}
	p.sub.Close()
	p.sub = nil
	p.signal()
}

func (p *polls) signal() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// renew subscribes again, where a subscription has ended by itself. If that fails, the
// next who comes tries, and those who wait already look when their wait is over.
func (p *polls) renew(ctx context.Context, ended *broadcast.Subscriber) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sub != ended {
		return nil // it was closed
	}
	p.unsubscribe()
	return p.subscribe(ctx)
}

// subscription returns the subscriber, or nil while nobody waits.
func (p *polls) subscription() *broadcast.Subscriber {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sub
}

// all returns the executions that somebody waits for.
func (p *polls) all() []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.waiting))
}

// concerned returns those of them that may have changed.
func (p *polls) concerned(frames []*wire.Frame) []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []int64
	for _, frame := range frames {
		n, ok := frame.Message.(wire.Notification)
		if !ok { // a gap, or another health: any of them may
			return slices.Collect(maps.Keys(p.waiting))
		}
		id, ok := n.EntityID.Int64()
		if _, waited := p.waiting[id]; ok && waited && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// give hands a look to those who wait for the execution; who has not taken the one
// before gets this one instead. It is for one goroutine, and holds no lock while those
// who were given something want to leave.
func (p *polls) give(id int64, l look) {
	for _, ch := range p.waitingFor(id) {
		select {
		case <-ch:
		default:
		}
		ch <- l // there is room: only give sends
	}
}

func (p *polls) waitingFor(id int64) []chan look {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.waiting[id]))
}

// follow reads the executions that are waited for when they may have changed, and at a
// low rate while the source is degraded, so that waiting ends even if not one
// notification arrives. It returns when ctx is done.
func (s *Server) follow(ctx context.Context) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	var frames []*wire.Frame
	for {
		var ready <-chan struct{}
		sub := s.polls.subscription()
		if sub != nil {
			ready = sub.Ready()
		}
		var ids []int64
		select {
		case <-ctx.Done():
			return
		case <-s.polls.changed:
		case <-ticker.C:
			if s.Hub.Mode() != wire.ModeLive {
				ids = s.polls.all()
			}
		case <-ready:
			var err error
			if frames, err = sub.Take(ctx, frames[:0]); err == nil {
				ids = s.polls.concerned(frames)
			} else if err = s.polls.renew(ctx, sub); err == nil {
				ids = s.polls.all() // what was told meanwhile is not known
			} else {
				s.Logger.WarnContext(ctx, "follow executions for long polls", slog.Any("err", err))
			}
		}
		for batch := range slices.Chunk(ids, maxReadings) {
			s.lookAt(ctx, batch)
		}
	}
}

// lookAt reads executions and hands them to those who wait.
func (s *Server) lookAt(ctx context.Context, ids []int64) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	cursor, begun := s.Hub.Cursor(), time.Now()
	found, err := s.getExecutions(ctx, ids)
	if err != nil {
		for _, id := range ids {
			s.polls.give(id, look{err: fmt.Errorf("read what long polls wait for: %w", err)})
		}
		return
	}
	for _, id := range ids {
		x, ok := found[id]
		if !ok {
			s.polls.give(id, look{err: &wire.Error{Code: wire.CodeNotFound, Message: fmt.Sprintf("execution %d is there no more", id)}})
			continue
		}
		r := &reading{cursor: cursor, begun: begun}
		r.setExecution(x)
		s.polls.give(id, look{reading: r})
	}
}
