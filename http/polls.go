package http

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"attune/wire"
)

// pollEvery is how often the rows of all who wait are read, in one query, while
// notifications do not arrive.
const pollEvery = 2 * time.Second

// polls are the long polls that wait, by execution. While the source is degraded
// they are given what a shared, slow poll reads, so that waiting ends even if not one
// notification arrives.
type polls struct {
	mu      sync.Mutex
	waiting map[int64]map[chan *reading]struct{}
}

// add registers a long poll; what is read of its execution comes on the channel.
func (p *polls) add(id int64) (readings <-chan *reading, remove func()) {
	ch := make(chan *reading, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = make(map[int64]map[chan *reading]struct{})
	}
	if p.waiting[id] == nil {
		p.waiting[id] = make(map[chan *reading]struct{})
	}
	p.waiting[id][ch] = struct{}{}
	return ch, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if delete(p.waiting[id], ch); len(p.waiting[id]) == 0 {
			delete(p.waiting, id)
		}
	}
}

// ids returns the executions that somebody waits for.
func (p *polls) ids() []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.waiting))
}

// give hands a reading to those who wait for its execution; who has not taken the
// one before gets this one instead.
func (p *polls) give(id int64, r *reading) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ch := range p.waiting[id] {
		select {
		case <-ch:
		default:
		}
		ch <- r // there is room: only give sends, under the lock
	}
}

// pollWhileDegraded reads the executions that are waited for, for as long as the
// source is degraded.
func (s *Server) pollWhileDegraded(ctx context.Context) {
	if s.Executions == nil {
		return
	}
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if s.Hub.Mode() == wire.ModeLive {
			continue
		}
		if ids := s.polls.ids(); len(ids) > 0 {
			s.pollOnce(ctx, ids)
		}
	}
}

func (s *Server) pollOnce(ctx context.Context, ids []int64) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	cursor, begun := s.Hub.Cursor(), time.Now()
	executions, err := s.Executions.GetMany(ctx, ids)
	if err != nil {
		s.Logger.WarnContext(ctx, "poll while degraded", slog.Any("err", err))
		return
	}
	for _, x := range executions {
		r := &reading{cursor: cursor, begun: begun}
		r.setExecution(x)
		s.polls.give(x.ID, r)
	}
}
