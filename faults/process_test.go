package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"attune/faults"
)

// server is the real binary on an address that it keeps when it is started again.
type server struct {
	t      *testing.T
	binary string
	env    []string
	addr   string
	url    string

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	ended  time.Time
	log    lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newServer starts `attune serve` with nothing in its environment but env, and
// returns when it is ready.
func newServer(t *testing.T, binary string, env ...string) *server {
	t.Helper()
	var lc net.ListenConfig
	free, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, binary: binary, addr: addr, url: "http://" + addr}
	s.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GORACE=" + os.Getenv("GORACE"),
		"ATTUNE_LISTEN_ADDR=" + addr, "ATTUNE_RUNNER=false", "ATTUNE_CHANNELS=" + channel,
		"ATTUNE_CANARY_INTERVAL=1s", "ATTUNE_DRAIN=1s",
	}, env...)
	t.Cleanup(func() {
		s.signal(syscall.SIGCONT)
		s.signal(syscall.SIGTERM)
		s.wait()
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.log.String())
		}
		if strings.Contains(s.log.String(), "DATA RACE") {
			t.Error("the server has a data race")
		}
	})
	s.start()
	s.ready()
	return s
}

// setting returns the number that a variable of the process has.
func (s *server) setting(name string) int {
	s.t.Helper()
	text := ""
	for _, variable := range s.env {
		if value, ok := strings.CutPrefix(variable, name+"="); ok {
			text = value // the last one counts
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	return n
}

// start starts the process; the one before has ended.
func (s *server) start() {
	s.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(s.t.Context()), s.binary, "serve")
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env, &s.log, &s.log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited := make(chan struct{})
	s.mu.Lock()
	s.cmd, s.exited = cmd, exited
	s.mu.Unlock()
	go func() { // ends with the process, which the cleanup waits for
		_ = cmd.Wait()
		s.mu.Lock()
		s.ended = time.Now()
		s.mu.Unlock()
		close(exited)
	}()
}

// ready waits until /readyz says that notifications arrive.
func (s *server) ready() {
	s.t.Helper()
	restarts := 0
	eventually(s.t, "the server is ready", func() bool {
		select {
		case <-s.exited:
			// At its start it ends where it finds no source, as on a machine that has no time
			// for it. What keeps servers running starts it again, some times.
			if restarts++; restarts > 3 {
				s.t.Fatalf("the server has ended:\n%s", s.log.String())
			}
			s.start()
		default:
		}
		status, _, err := s.get("/readyz")
		return err == nil && status == http.StatusOK
	})
}

// signal sends a signal; the process may have ended.
func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("send %s: %v", sig, err)
	}
}

// kill ends the process as nothing else does, and waits for its end.
func (s *server) kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	s.wait()
}

// wait waits for the end; a process that does not end is killed, which fails t.
func (s *server) wait() {
	s.t.Helper()
	if s.exited == nil {
		return
	}
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Error("the server does not end")
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
}

// get gets a path on a connection of its own.
func (s *server) get(path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// stats is what of /stats the suite looks at.
type stats struct {
	Source struct {
		Source     string `json:"source"`
		Live       bool   `json:"live"`
		Reconnects int    `json:"reconnects"`
		Log        struct {
			Polling bool `json:"polling"`
		} `json:"log"`
	} `json:"source"`
	Hub struct {
		Subscribers     int   `json:"subscribers"`
		QueuedMost      int   `json:"queued_most"`
		QueuedBytes     int64 `json:"queued_bytes"`
		QueuedBytesMost int64 `json:"queued_bytes_most"`
	} `json:"hub"`
	SlowConsumers map[string]int `json:"slow_consumers"`
}

func (s *server) stats() (stats, error) {
	var v stats
	status, body, err := s.get("/stats")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/stats: %d", status)
	}
	if err == nil {
		err = json.Unmarshal(body, &v)
	}
	return v, err
}

// resident returns the process's memory in bytes; 0 where there is none.
func (s *server) resident() int64 {
	s.mu.Lock()
	pid := s.cmd.Process.Pid
	s.mu.Unlock()
	statm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(statm))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// repeat calls do every so often, until ctx is done or it wants no more.
func repeat(ctx context.Context, every time.Duration, do func() (more bool)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !do() {
			return
		}
	}
}

// sample samples the server's memory until the function returned is called, which
// returns the samples.
func (s *server) sample() (stop func() []faults.Sample) {
	var samples []faults.Sample
	ctx, cancel := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		repeat(ctx, 500*time.Millisecond, func() (more bool) {
			sample := faults.Sample{At: time.Now(), Resident: s.resident()}
			if v, err := s.stats(); err == nil {
				sample.Queued, sample.Queues = v.Hub.QueuedBytes, v.Hub.Subscribers
				sample.Fullest, sample.FullestBytes = v.Hub.QueuedMost, v.Hub.QueuedBytesMost
			}
			samples = append(samples, sample)
			return true
		})
	})
	return func() []faults.Sample {
		cancel()
		wg.Wait()
		return samples
	}
}
