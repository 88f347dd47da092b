package faults_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	attuneclient "attune/client"
	"attune/faults"
	"attune/wire"
)

// Transports of a client.
const (
	overWS  = "ws"
	overSSE = "sse"
	// ours is the product's own client, over WebSocket.
	ours = "client"
	// overCLI is `attune events`, a process of its own.
	overCLI = "cli"
)

// client follows a server, records all that comes, and returns with its cursor when
// the connection is lost.
type client struct {
	t         *testing.T
	transport string
	filters   []string
	rng       *rand.Rand
	churn     bool // subscribes and unsubscribes all the time

	mu       sync.Mutex
	urls     []string // the first is where it goes; a lost connection goes to the next
	cursor   string
	record   faults.Client
	fences   map[faults.Body]bool
	acked    bool // on the connection as it is now
	failures []string
	said     []string
	process  *os.Process        // of overCLI
	onFrame  func(faults.Frame) // called with the lock held; may be nil
	received int                // notifications
	seams    int                // how often a connection went on from replay to what was new
	more     chan struct{}      // closed and replaced with every frame
}

func newClient(t *testing.T, name, transport, url string, filters ...string) *client {
	t.Helper()
	return &client{
		t: t, transport: transport, filters: filters, urls: []string{url}, fences: make(map[faults.Body]bool),
		record: faults.Client{Name: name + " (" + transport + ")"}, more: make(chan struct{}),
		rng: rand.New(rand.NewPCG(*seed, uint64(len(name))<<32|uint64(name[len(name)-1]))),
	}
}

// run follows until ctx is done.
func (c *client) run(ctx context.Context) {
	switch c.transport {
	case ours:
		c.runOurs(ctx)
		return
	case overCLI:
		c.runCLI(ctx)
		return
	}
	for ctx.Err() == nil {
		switch c.transport {
		case overWS:
			c.overWebSocket(ctx)
		case overSSE:
			c.overSSE(ctx)
		}
		c.mu.Lock()
		c.acked = false
		if ctx.Err() == nil {
			c.urls = append(c.urls[1:], c.urls[0])
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(10+c.rng.IntN(100)) * time.Millisecond):
		}
	}
}

// begin begins to record a connection and returns where it goes.
func (c *client) begin() (base, resume string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record.Connections = append(c.record.Connections, faults.Connection{Filters: c.filters, Resume: c.cursor})
	return c.urls[0], c.cursor
}

// receive records a frame.
func (c *client) receive(b []byte) faults.Frame {
	f, err := faults.ParseFrame(b, time.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failures = append(c.failures, err.Error())
		return f
	}
	conn := &c.record.Connections[len(c.record.Connections)-1]
	conn.Frames = append(conn.Frames, f)
	if c.onFrame != nil {
		c.onFrame(f)
	}
	switch f.Kind {
	case faults.KindNotification:
		c.cursor = f.Cursor
		c.received++
		if f.Body.EntityType == "fence" {
			c.fences[f.Body] = true
		}
	case faults.KindGap:
		c.cursor = f.Cursor
	case faults.KindSubscribed, faults.KindWelcome:
		if f.Cursor != "" {
			c.acked = true
		}
		if c.cursor == "" {
			c.cursor = f.Cursor
		}
	case faults.KindUnsubscribed, faults.KindStatus, faults.KindBye:
	}
	close(c.more)
	c.more = make(chan struct{})
	return f
}

// awaitFence waits for a notification for as long as anything comes: a slow machine may
// have much to catch up with.
func (c *client) awaitFence(fence faults.Body) (arrived bool) {
	for received, moved := 0, true; moved && !arrived; {
		arrived = c.await(patience/5, func() bool { return c.fences[fence] })
		c.mu.Lock()
		received, moved = c.received, c.received > received
		c.mu.Unlock()
	}
	return arrived
}

// await waits until ok, which is called with the lock held, returns true, or for the
// limit.
func (c *client) await(limit time.Duration, ok func() bool) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		c.mu.Lock()
		done, more := ok(), c.more
		c.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-more:
		case <-deadline.C:
			return false
		}
	}
}

// complete says that the connection should have everything by now.
func (c *client) complete() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.record.Connections); n > 0 {
		c.record.Connections[n-1].Complete = true
	}
}

func (c *client) overWebSocket(ctx context.Context) {
	base, resume := c.begin()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q := url.Values{}
	inURL := len(c.filters) > 1
	if inURL {
		q["filter"] = c.filters
		if resume != "" {
			q.Set("cursor", resume)
		}
	}
	dialing, stop := context.WithTimeout(ctx, 5*time.Second)
	conn, _, err := websocket.Dial(dialing, "ws"+strings.TrimPrefix(base, "http")+"/ws?"+q.Encode(), nil) //nolint:bodyclose // it is the connection
	stop()
	if err != nil {
		return
	}
	defer conn.CloseNow() //nolint:errcheck // it has ended
	conn.SetReadLimit(64 << 20)
	send := func(m map[string]string) error {
		b := []byte("{")
		for k, v := range m {
			if len(b) > 1 {
				b = append(b, ',')
			}
			b = fmt.Appendf(b, "%q:%q", k, v)
		}
		return conn.Write(ctx, websocket.MessageText, append(b, '}'))
	}
	if !inURL {
		m := map[string]string{"type": "subscribe", "filter": c.filters[0]}
		if resume != "" {
			m["cursor"] = resume
		}
		if send(m) != nil {
			return
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if c.churn {
		wg.Go(func() {
			on := make(map[string]bool)
			for ctx.Err() == nil {
				filter := fmt.Sprintf("entity:orders:%d", c.rng.IntN(entities))
				kind := map[bool]string{true: "unsubscribe", false: "subscribe"}[on[filter]]
				on[filter] = !on[filter]
				if send(map[string]string{"type": kind, "filter": filter}) != nil {
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(c.rng.IntN(20)) * time.Millisecond):
				}
			}
		})
	}
	cut := false
	for {
		_, b, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if cut {
			c.fail("a frame that is no JSON, and more after it")
		}
		// The library returns what has come of a message when the connection ends in the
		// midst of it, as if that were all. Nothing can follow.
		if cut = !json.Valid(b); !cut {
			c.receive(b)
		}
	}
}

func (c *client) overSSE(ctx context.Context) {
	base, resume := c.begin()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/events?"+url.Values{"filter": c.filters}.Encode(), nil)
	if err != nil {
		c.t.Error(err)
		return
	}
	if resume != "" {
		req.Header.Set("Last-Event-ID", resume)
	}
	transport := &http.Transport{ResponseHeaderTimeout: 5 * time.Second}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return
	}
	r := bufio.NewReaderSize(resp.Body, 64<<10)
	var data []byte
	var id string
	for {
		l, err := r.ReadBytes('\n')
		if err != nil {
			return // an event counts with its empty line only
		}
		l = bytes.TrimSuffix(l, []byte("\n"))
		name, text, _ := bytes.Cut(l, []byte(": "))
		switch {
		case len(l) == 0:
			if data != nil {
				f := c.receive(data)
				if f.Cursor != id {
					c.fail("event with id %q and cursor %q", id, f.Cursor)
				}
			}
			data, id = nil, ""
		case string(name) == "data":
			data = bytes.Clone(text)
		case string(name) == "id":
			id = string(text)
		}
	}
}

// runOurs records what the product's client hands on. Where it connects anew is its
// own affair: the whole is one connection to whoever uses it.
func (c *client) runOurs(ctx context.Context) {
	base, _ := c.begin()
	cl, err := attuneclient.New(attuneclient.Config{BaseURL: base, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		c.t.Error(err)
		return
	}
	defer cl.Close()
	err = cl.Stream(ctx, c.filters, attuneclient.StreamOptions{
		Lost: func(error, time.Duration) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.acked = false
		},
	}, func(m wire.ServerMessage) error {
		c.receive(wire.EncodeServerMessage(m))
		return nil
	})
	if ctx.Err() == nil {
		c.fail("the stream ended: %v", err)
	}
}

func (c *client) fail(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, fmt.Sprintf(format, args...))
}
