package http_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"attune/broadcast"
)

// mine is what the client follows whose turn must come; the others follow theirs.
const mine, theirs = 1, 7

// firstByte is how long it takes from Publish until a client gets the first byte.
func (c *raw) firstByte(s *server) time.Duration {
	c.t.Helper()
	begun := time.Now()
	s.publish(mine)
	if _, err := c.r.Peek(1); err != nil {
		c.t.Fatal(err)
	}
	took := time.Since(begun)
	equal(c.t, "id", c.text()["entity_id"], any(float64(mine)))
	return took
}

// following is a WebSocket that follows mine.
func (s *server) following() *raw {
	s.t.Helper()
	c := s.rawSocket(fmt.Sprintf("/ws?filter=entity:execution:%d", mine))
	c.text()
	c.text()
	return c
}

// middle sorts the list and returns its median.
func middle(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// TestFairTurns_Unread: clients that read nothing, with full sockets and all but full
// queues, delay nobody. The first byte takes as long as on a server without them.
func TestFairTurns_Unread(t *testing.T) {
	const deaf, queue, size = 4, 256, 32 << 10 // 8 MB for each of them: more than a socket holds
	crowded := start(t, func(cfg *setup) { cfg.Options = broadcast.Options{QueueSize: queue, WindowSize: 1} })
	alone := start(t)
	few := *crowded
	few.dial = (&net.Dialer{Control: smallBuffer}).DialContext
	for range deaf {
		few.rawSocket(fmt.Sprintf("/ws?filter=entity:execution:%d", theirs))
		few.raw(fmt.Sprintf("GET /events?filter=entity:execution:%d HTTP/1.1\r\nHost: attune\r\n\r\n", theirs))
	}
	among, by := crowded.following(), alone.following()
	crowded.connections("ws", deaf+1)
	crowded.connections("sse", deaf)

	// They would be told to go for one more, and are after 5 s.
	for range queue - 16 {
		crowded.hub.Publish(large(theirs, size))
	}
	var waited, apart []time.Duration
	for range 20 {
		waited = append(waited, among.firstByte(crowded))
		apart = append(apart, by.firstByte(alone))
	}
	equal(t, "those who do not read are still there", crowded.connectionsNow(), 2*deaf+1)
	got, want := middle(waited), middle(apart)
	t.Logf("first byte after %s, %s without them", got, want)
	if longest := waited[len(waited)-1]; longest > 3*time.Second { // who waits for a client waits for 5 s
		t.Errorf("a first byte after %s", longest)
	}
	if got > 3*want+10*time.Millisecond {
		t.Errorf("first byte after %s, %s without those who do not read", got, want)
	}
}

// TestFairTurns_Backlog: clients to whom much is replayed do not have it all before
// somebody else gets a first byte.
func TestFairTurns_Backlog(t *testing.T) {
	const backlog, size, rounds = 4096, 16 << 10, 9
	s := start(t, func(cfg *setup) { cfg.Options = broadcast.Options{QueueSize: 64, WindowSize: 2 * backlog} })
	cursor := s.hub.Cursor().String()
	for range backlog {
		s.hub.Publish(large(theirs, size))
	}
	c := s.following()

	var waited, replayed []time.Duration
	for range rounds {
		var replays sync.WaitGroup
		began, took := make(chan struct{}, 2), make(chan time.Duration, 2)
		for _, path := range []string{"/ws", "/events"} {
			replays.Go(func() {
				d, err := s.replay(path, cursor, backlog*size, began)
				if err != nil {
					t.Errorf("replay of %s: %v", path, err)
				}
				took <- d
			})
		}
		<-began
		<-began
		waited = append(waited, c.firstByte(s))
		replays.Wait()
		replayed = append(replayed, <-took, <-took)
	}
	got, whole := middle(waited), middle(replayed)
	t.Logf("first byte after %s, while there are replays that take %s more", got, whole)
	if got > whole/4 {
		t.Errorf("first byte after %s, while there are replays that take %s more", got, whole)
	}
}

// replay reads a stream from cursor on until so much has come, and returns how long
// that took from when it began to come.
func (s *server) replay(path, cursor string, size int64, began chan<- struct{}) (took time.Duration, err error) {
	first := func() { began <- struct{}{} }
	defer func() { first() }()
	conn, err := s.dial(s.t.Context(), "tcp", s.addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	request := upgrade(fmt.Sprintf("%s?filter=entity:execution:%d&cursor=%s", path, theirs, cursor))
	if _, err := io.WriteString(conn, request); err != nil { // event streams do not mind what upgrades
		return 0, err
	}
	const begin = 256 << 10
	if _, err := io.CopyN(io.Discard, conn, begin); err != nil {
		return 0, err
	}
	first()
	first = func() {}
	start := time.Now()
	_, err = io.CopyN(io.Discard, conn, size-begin)
	return time.Since(start), err
}

// smallBuffer keeps the kernel from holding much that is not read.
func smallBuffer(_, _ string, raw syscall.RawConn) error {
	var err error
	return errors.Join(raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) }), err)
}
