package faults_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"attune/attunetest"
	"attune/faults"
)

// Thousands are connected when SIGTERM comes. Each is told goodbye within the drain or,
// if it does not read or answer, cut; the process ends within two seconds more. Goodbyes
// are spread over the drain, so that clients do not come back all at once.
//
// Not parallel: what is measured is time.
func TestDrain(t *testing.T) {
	const drain, slack = 5 * time.Second, 2 * time.Second
	raiseDescriptors(t)
	s := newScene(t, sourceListen)
	s.server = newServer(t, attunetest.PlainBinary(t), "DATABASE_URL="+s.db.url, "ATTUNE_DRAIN=5s", patientCanary)
	count := times(500, 5000)
	streams := make([]*stream, count)
	var group errgroup.Group
	group.SetLimit(32)
	for i := range streams {
		streams[i] = &stream{ws: i%2 == 0, mute: i%20 >= 18}
		group.Go(func() error { return streams[i].open(s.server) })
	}
	err := group.Wait()
	t.Cleanup(func() {
		for _, st := range streams {
			if st.conn != nil {
				_ = st.conn.Close()
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are subscribed", func() bool {
		v, err := s.server.stats()
		return err == nil && v.Hub.Subscribers == count
	})
	resident := s.server.resident()
	s.db.commit(1, 100)

	var reading sync.WaitGroup
	for _, st := range streams {
		if !st.mute || !st.ws { // a mute WebSocket reads nothing more
			reading.Go(func() { st.read() })
		}
	}
	eventually(t, "the notification was delivered", func() bool {
		return !slices.ContainsFunc(streams, func(st *stream) bool { return !st.mute && !st.has(`"type":"notification"`) })
	})
	began := time.Now()
	s.fault(func() { s.server.signal(syscall.SIGTERM) })
	unready := time.Time{}
	for unready.IsZero() && time.Since(began) < drain {
		if status, _, err := s.server.get("/readyz"); err == nil && status == http.StatusServiceUnavailable {
			unready = time.Now()
		}
	}
	s.server.wait()
	took := s.server.ended.Sub(began)
	for _, st := range streams {
		if st.mute && st.ws {
			reading.Go(func() { st.read() }) // what was sent is still there
		}
	}
	reading.Wait()

	report := faults.Report{Commits: 1, Connections: count, Delivered: count}
	violation := func(i int, format string, args ...any) {
		report.Violations = append(report.Violations, faults.Violation{Kind: "goodbye", Client: fmt.Sprint(i), Detail: fmt.Sprintf(format, args...)})
	}
	var goodbyes []time.Duration // of those that read
	told := 0
	for i, st := range streams {
		goodbye := st.goodbye.Sub(began)
		switch {
		case st.goodbye.IsZero():
			violation(i, "ended without goodbye (WebSocket %t, mute %t)", st.ws, st.mute)
			continue
		case st.mute && st.ws:
		case goodbye > drain:
			violation(i, "goodbye after %s", goodbye)
		case unready.IsZero() || st.goodbye.Before(unready):
			violation(i, "goodbye before the server was unready")
		}
		told++
		if !st.mute {
			goodbyes = append(goodbyes, goodbye)
		}
	}
	if len(goodbyes) == 0 {
		t.Fatal("nobody was told goodbye")
	}
	slices.Sort(goodbyes)
	tenth := len(goodbyes) / 10
	early, late := goodbyes[tenth], goodbyes[len(goodbyes)-1-tenth] // but for those that some delay tore out
	if late-early < drain/2 {
		violation(-1, "eight tenths of the goodbyes within %s, want them spread over the drain of %s", late-early, drain)
	}
	samples := []faults.Sample{{At: began, Resident: resident}}
	report.Violations = append(report.Violations, faults.CheckMemory("server", samples, faults.Caps{Resident: int64(times(64, 160)) << 20})...)
	if took > drain+slack {
		violation(-1, "the process ended after %s", took)
	}
	s.note = fmt.Sprintf("%d told goodbye between %s and %s after SIGTERM, process ended after %s, %d MB with all connected",
		told, goodbyes[0].Round(time.Millisecond), goodbyes[len(goodbyes)-1].Round(time.Millisecond), took.Round(time.Millisecond), resident>>20)
	s.tell(report)
}

// raiseDescriptors lets this process and those that it starts open as many files as
// they may.
func raiseDescriptors(t *testing.T) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if need := uint64(times(500, 5000) + 1000); limit.Cur < need {
		t.Fatalf("at most %d open files are allowed, %d are needed: raise the hard limit (ulimit -Hn)", limit.Cur, need)
	}
}

// stream is a connection that costs little: one goroutine.
type stream struct {
	ws   bool
	mute bool // does not answer a goodbye, and a WebSocket does not even read it
	conn net.Conn

	mu      sync.Mutex
	text    bytes.Buffer
	goodbye time.Time
}

// The last words: an event, and a close frame with the code 1001.
var (
	bye     = []byte("event: bye\n")      //nolint:gochecknoglobals // a constant
	closing = []byte{0x88, 0, 0x03, 0xe9} //nolint:gochecknoglobals // a constant
)

func (st *stream) open(s *server) error {
	request := "GET /events HTTP/1.1\r\nHost: attune\r\n\r\n"
	want := "event: welcome"
	if st.ws {
		request = "GET /ws?filter=all HTTP/1.1\r\nHost: attune\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
		want = `"subscribed"`
	}
	var err error
	if st.conn, err = net.DialTimeout("tcp", s.addr, 10*time.Second); err != nil { //nolint:noctx // bounded
		return err
	}
	if _, err := st.conn.Write([]byte(request)); err != nil {
		return err
	}
	_ = st.conn.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4096)
	for !st.has(want) {
		n, err := st.conn.Read(b)
		if err != nil {
			return fmt.Errorf("open a stream: %w", err)
		}
		st.take(b[:n])
	}
	return nil
}

func (st *stream) take(b []byte) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.text.Write(b)
	if !st.goodbye.IsZero() {
		return
	}
	all := st.text.Bytes()
	if st.ws {
		// The length of the reason is in between.
		for i := range len(all) - 3 {
			if all[i] == closing[0] && all[i+2] == closing[2] && all[i+3] == closing[3] {
				st.goodbye = time.Now()
			}
		}
	} else if bytes.Contains(all, bye) {
		st.goodbye = time.Now()
	}
}

func (st *stream) has(text string) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return bytes.Contains(st.text.Bytes(), []byte(text))
}

// read reads to the end, and answers a close frame if it is not mute.
func (st *stream) read() {
	_ = st.conn.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4096)
	answered := st.mute
	for {
		n, err := st.conn.Read(b)
		st.take(b[:n])
		st.mu.Lock()
		over := !st.goodbye.IsZero()
		st.mu.Unlock()
		if st.ws && over && !answered {
			answered = true
			_, _ = st.conn.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9})
		}
		if errors.Is(err, io.EOF) || err != nil {
			return
		}
	}
}
