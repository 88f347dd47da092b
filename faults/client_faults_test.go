package faults_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"attune/attunetest"
)

// The network between clients and server does everything that networks do.
func TestClientNetwork(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		s.noGaps = true // nothing happens between server and database
		s.serve(s.db.url, patientCanary)
		n := newNetwork(t, s.server.addr)
		s.follow("http://" + n.addr)
		stop := s.db.load(4, 200)
		for range times(1, 8) {
			for _, x := range toxics() {
				s.fault(func() { n.add(x) })
				pass(time.Duration(times(300, 1500)) * time.Millisecond)
				n.heal()
			}
			for range times(2, 10) { // and a bad line that gets better
				s.fault(func() { n.add(toxics()[0]) })
				pass(200 * time.Millisecond)
				n.remove()
			}
		}
		stop()
		s.finish()
	})
}

// A client's process is stopped for so long that the server has to do without it, and
// goes on.
func TestClient_Stopped(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		s.noGaps = true
		s.serve(s.db.url, patientCanary, "ATTUNE_QUEUE_SIZE=300", "ATTUNE_WINDOW_BYTES=268435456")
		stopped := newClient(t, "events 1", overCLI, s.server.url, "all")
		other := newClient(t, "all 2", overSSE, s.server.url, "all")
		s.add(stopped, other)
		s.subscribed()
		for i := range times(1, 3) {
			eventually(t, "both clients are connected", func() bool {
				v, err := s.server.stats()
				return err == nil && v.Hub.Subscribers == 2
			})
			s.fault(func() { stopped.signal(syscall.SIGSTOP) })
			for range 18 {
				s.db.bulk(150, 6000)
			}
			// Its queue was full, or, where the log is read in a rush, it takes nothing.
			eventually(t, "the stopped client is found to be slow", func() bool {
				v, err := s.server.stats()
				return err == nil && v.SlowConsumers[overWS] > i
			})
			stopped.signal(syscall.SIGCONT)
			pass(time.Second)
		}
		s.finish()
	})
}

// runCLI records what `attune events` prints, over all its connections.
func (c *client) runCLI(ctx context.Context) {
	base, _ := c.begin()
	cmd := exec.CommandContext(ctx, attunetest.Binary(c.t), "events", "--json", "--filter", c.filters[0], "--url", base)
	cmd.Env = []string{"HOME=" + os.TempDir(), "GORACE=" + os.Getenv("GORACE")}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		c.fail("%v", err)
		return
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		c.fail("%v", err)
		return
	}
	if err := cmd.Start(); err != nil {
		c.fail("%v", err)
		return
	}
	c.mu.Lock()
	c.process = cmd.Process
	c.mu.Unlock()
	var once sync.Once
	acknowledged := func() {
		once.Do(func() {
			c.receive(fmt.Appendf(nil, `{"type":"subscribed","filter":%q,"cursor":"first"}`, c.filters[0]))
		})
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			c.say(lines.Text())
			switch text := lines.Text(); {
			case strings.Contains(text, "subscribed to"):
				acknowledged()
				c.setAcked(true)
			case strings.Contains(text, "retrying in"):
				c.setAcked(false)
			}
		}
		_, _ = io.Copy(io.Discard, stderr)
	})
	wg.Go(func() {
		lines := bufio.NewReaderSize(stdout, 64<<10)
		for {
			l, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			acknowledged() // two pipes have no order
			c.receive(l)
		}
	})
	wg.Wait()
	_ = cmd.Wait()
	if ctx.Err() == nil {
		c.fail("attune events ended: %s", cmd.ProcessState)
	}
}

// say keeps what the client's process says, to be shown with a failure.
func (c *client) say(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, time.Now().UTC().Format(time.StampMilli)+" "+text)
}

func (c *client) setAcked(acked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked = acked
	close(c.more)
	c.more = make(chan struct{})
}

// signal sends a signal to the client's process.
func (c *client) signal(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.process.Signal(sig); err != nil {
		c.t.Errorf("send %s: %v", sig, err)
	}
}

// Clients read nothing while tens of thousands of notifications pass. They are told or
// cut, what waits for them stays within the cap, and the others notice nothing.
func TestClient_Silent(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		s.noGaps = true
		s.serve(s.db.url, patientCanary, "ATTUNE_QUEUE_SIZE=1024", "ATTUNE_WINDOW_SIZE=100000", "ATTUNE_WINDOW_BYTES=268435456")
		silent := []net.Conn{
			s.dial("GET /events HTTP/1.1\r\nHost: attune\r\n\r\n"),
			s.dial("GET /ws?filter=all HTTP/1.1\r\nHost: attune\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"),
		}
		s.injected.Add(int64(len(silent)))
		s.add(clientsOf(t, s.server.url)[:times(2, 7)]...)
		s.subscribed()
		reader := s.clients[0]
		// A kernel takes some 5 MB for a client that reads nothing.
		total, size := times(3500, 50_000), times(2000, 500)
		for done := 0; done < total; done += 100 {
			s.db.bulk(100, size)
			// Not faster than the readers are: theirs is not the fault.
			if !reader.await(patience, func() bool { return len(reader.record.Connections[0].Frames) >= done }) {
				t.Fatal("a reader does not keep up")
			}
		}
		eventually(t, "those who do not read are given up", func() bool {
			v, err := s.server.stats()
			return err == nil && v.SlowConsumers[overWS] == 1 && v.SlowConsumers[overSSE] == 1 && v.Hub.Subscribers == len(s.clients)
		})
		for i, conn := range silent {
			// What was sent before the cut may be read; then comes the end, and before it
			// what may have fitted in.
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if n, err := io.Copy(io.Discard, conn); isTimeout(err) {
				t.Errorf("silent client %d is neither told nor cut after %d bytes", i, n)
			}
		}
		s.finish()
		for _, c := range s.clients {
			if n := len(c.record.Connections); n != 1 {
				t.Errorf("client %s lost its connection: it has had %d", c.record.Name, n)
			}
		}
	})
}

// dial opens a connection with small buffers, sends a request and reads nothing.
func (s *scene) dial(request string) net.Conn {
	s.t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		})
	}}
	conn, err := dialer.DialContext(s.t.Context(), "tcp", s.server.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write([]byte(request)); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error) //nolint:errorlint // io.Copy does not wrap
	return ok && timeout.Timeout()
}
