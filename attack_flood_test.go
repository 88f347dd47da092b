package main_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"attune/http/wstest"
)

// After any amount of junk the server is as it was before: ready, of use, and of the same
// size.
func TestAttack_Junk(t *testing.T) {
	t.Parallel()
	x := withSecret(t, "ATTUNE_LOG_LEVEL=info", "ATTUNE_REQUEST_RATE=0", "ATTUNE_SUBSCRIBE_RATE=0")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	seven := x.user(7)
	size := func() (goroutines, resident float64) {
		return x.figure(t, "go_goroutines"), x.figure(t, "process_resident_memory_bytes") / (1 << 20)
	}
	settled := func() bool {
		return x.figure(t, `attune_connections{transport="ws"}`) == 0 && x.figure(t, `attune_connections{transport="sse"}`) == 0
	}
	// A process that has served nothing yet has not what it will keep.
	x.flood(t, seed, seven, max(500, *junk/10))
	x.wellStill(t)
	eventually(t, "those who warmed it up are gone", settled)
	goroutines, resident := size()

	begun := time.Now()
	frames, requests := x.flood(t, seed+1, seven, *junk)
	took := time.Since(begun)
	x.wellStill(t)
	eventually(t, "all who sent junk are gone", settled)
	var goroutinesAfter, residentAfter float64
	eventually(t, "memory and goroutines are about as before", func() bool {
		goroutinesAfter, residentAfter = size()
		// The collector keeps twice what is in use.
		return goroutinesAfter <= goroutines+10 && residentAfter <= resident*1.5+32
	})
	t.Logf("%d junk frames and %d junk requests in %s: %.0f goroutines before, %.0f after; %.0f MB resident before, %.0f after",
		frames, requests, took.Round(time.Millisecond), goroutines, goroutinesAfter, resident, residentAfter)
}

// flood sends count junk frames and as many junk requests, from several connections at
// once, and returns how many it has sent.
func (x *target) flood(t *testing.T, seed uint64, token string, count int) (frames, requests int64) {
	t.Helper()
	const workers = 4
	var sentFrames, sentRequests atomic.Int64
	g, ctx := errgroup.WithContext(t.Context())
	for i := range uint64(workers) {
		g.Go(func() error {
			random := rand.New(rand.NewPCG(seed, i))
			for sentFrames.Load() < int64(count) {
				n, err := x.junkFrames(ctx, random, token)
				if err != nil {
					return err
				}
				sentFrames.Add(int64(n))
			}
			return nil
		})
		g.Go(func() error {
			random := rand.New(rand.NewPCG(seed, workers+i))
			for sentRequests.Load() < int64(count) {
				n, err := x.junkRequests(ctx, random, token)
				if err != nil {
					return err
				}
				sentRequests.Add(int64(n))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return sentFrames.Load(), sentRequests.Load()
}

// junkFrames sends junk on one WebSocket until the server has enough of it, and returns
// how many frames that were: one, or twenty with what is but bad JSON, or a hundred with
// what is refused more patiently.
func (x *target) junkFrames(ctx context.Context, random *rand.Rand, token string) (n int, err error) {
	s, err := x.open(ctx, "", token)
	if err != nil {
		return 0, err
	}
	defer s.conn.Close()
	switch random.IntN(10) {
	case 0: // of any shape
		first := byte(random.Uint32()) | 0x30 // never one that the protocol knows
		s.send(wstest.Frame(first, junkBytes(random, 300)))
		n = 1
	case 1, 2, 3: // bad ones, of any content
		for n = range 20 {
			s.send(wstest.Frame(0x81, []byte("\x01"+strings.ToValidUTF8(string(junkBytes(random, 300)), "?"))))
		}
		n++
	default: // well-formed ones that ask for nonsense, or for what is another's
		for n = range 200 {
			s.text(fmt.Sprintf(`{"type":"subscribe","filter":%s}`, quoted(strings.ToValidUTF8(string(junkBytes(random, 40)), "?"))))
			if n%20 == 0 {
				s.text(fmt.Sprintf(`{"type":"subscribe","filter":"user:%d","cursor":"x"}`, random.Int64()))
			}
		}
		n++
		s.send(wstest.Frame(0x88, nil))
	}
	if _, err := s.closeCode(); err != nil {
		return 0, fmt.Errorf("after %d junk frames: %w", n, err)
	}
	return n, nil
}

// junkRequests sends requests on one connection until the server ends it, or there are
// enough, and returns how many.
func (x *target) junkRequests(ctx context.Context, random *rand.Rand, token string) (n int, err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", x.addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	r := bufio.NewReader(conn)
	for n = 1; n <= 100; n++ {
		if random.IntN(50) == 0 { // what is no request
			_, _ = conn.Write(append(junkBytes(random, 300), "\r\n\r\n"...))
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, r)
			return n, nil
		}
		method := []string{"GET", "GET", "POST", "DELETE", "PUT", "OPTIONS", "JUNK"}[random.IntN(7)]
		path := []string{"/", "/executions/%x", "/executions?limit=%x", "/entities/%x/1", "/events?filter=%x", "/ws?ticket=%x", "/tickets/%x", "/session?token=%x", "/%x"}[random.IntN(9)]
		if strings.Contains(path, "%x") {
			path = fmt.Sprintf(path, junkBytes(random, 30))
		}
		who := []string{"X: y", bearer(token[:len(token)-random.IntN(20)-2]), bearer(fmt.Sprintf("%x", junkBytes(random, 60))), fmt.Sprintf("Origin: http://%x", junkBytes(random, 9))}[random.IntN(4)]
		body := junkBytes(random, 100)
		text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Length: %d\r\n\r\n", method, path, x.addr, who, len(body))
		if _, err := conn.Write(append([]byte(text), body...)); err != nil {
			return n, nil // the server has ended the connection: it may
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return n, nil
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented {
			return 0, fmt.Errorf("%s %s: %s", method, path, resp.Status)
		}
		if err != nil || resp.Close {
			return n, nil
		}
	}
	return n - 1, nil
}

// junkBytes returns up to most bytes, at least one.
func junkBytes(random *rand.Rand, most int) []byte {
	b := make([]byte, 1+random.IntN(most))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// Whoever does not read what he asked for is disconnected, costs no more than his queue,
// and keeps nobody else waiting.
func TestAttack_SlowReaders(t *testing.T) {
	t.Parallel()
	x := withSecret(t, "ATTUNE_QUEUE_SIZE=64", "ATTUNE_WINDOW_SIZE=100", "ATTUNE_LOG_LEVEL=info")
	seven := x.user(7)
	before := x.figure(t, "process_resident_memory_bytes") / (1 << 20)
	const each = 10
	for range each {
		for _, request := range []string{
			"GET /events HTTP/1.1\r\nHost: x\r\n" + bearer(seven) + "\r\n\r\n",
			"GET /ws?filter=all HTTP/1.1\r\nHost: x\r\n" + strings.Join(upgradeTo(bearer(seven)), "\r\n") + "\r\n\r\n",
		} {
			conn := dialSilent(t, x.server, "")
			if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "they are connected", func() bool {
		return x.figure(t, `attune_connections{transport="ws"}`) == each && x.figure(t, `attune_connections{transport="sse"}`) == each
	})
	reader := x.socket(t, "?filter=all", seven)
	reader.until(t, `"subscribed"`)
	const batch = 50 // fewer than may wait for the one who reads
	read, begun := 0, time.Now()
	gone := func() bool {
		return x.figure(t, `attune_connections{transport="ws"}`) == 1 && x.figure(t, `attune_connections{transport="sse"}`) == 0
	}
	for read < 1000 || !gone() {
		if time.Since(begun) > 3*patience {
			t.Fatalf("some are still connected after %d notifications", read)
		}
		if _, err := x.db.Exec(t.Context(), `SELECT pg_notify($1, json_build_object('entity_type', 'order', 'entity_id', i, 'pad', repeat('x', 7000))::text) FROM generate_series(1, $2::int) i`, attackChannel, batch); err != nil {
			t.Fatal(err)
		}
		for range batch {
			reader.until(t, `"notification"`)
			read++
		}
	}
	after := x.figure(t, "process_resident_memory_bytes") / (1 << 20)
	if after > before+150 {
		t.Errorf("%.0f MB resident, before %.0f", after, before)
	}
	t.Logf("%d who do not read are gone after %d notifications of 7 kB, all of which another has read; %.0f MB resident before, %.0f after", 2*each, read, before, after)
	x.wellStill(t)
}
