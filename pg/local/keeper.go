package local

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// interruptTimeout is how long a keeper whose start is given up waits for the
// tools that it has ended.
const interruptTimeout = 5 * time.Second

// keeperMark is the environment variable that makes this binary a keeper.
const keeperMark = "ATTUNE_KEEPER"

// order is what a keeper is started for.
type order string

const (
	startOrder order = "start" // run PostgreSQL until the parent ends
	sweepOrder order = "sweep" // stop what a killed keeper left, and exit
)

// instruction is the one JSON object on the keeper's stdin.
type instruction struct {
	Order        order             `json:"order"`
	DataDir      string            `json:"data_dir"`
	Settings     map[string]string `json:"settings"`
	Temporary    bool              `json:"temporary"`
	StartTimeout time.Duration     `json:"start_timeout"`
}

// report is a JSON line on the keeper's stdout. One field group is set:
// Downloading; or URL and Version; or Error.
type report struct {
	Downloading string `json:"downloading,omitempty"`
	URL         string `json:"url,omitempty"`
	Version     string `json:"version,omitempty"`
	Error       string `json:"error,omitempty"`
}

// Main runs the keeper if this process was started as one; the caller then
// exits with code. A main function calls it before anything else:
//
//	if code, keeper := local.Main(); keeper {
//		os.Exit(code)
//	}
func Main() (code int, keeper bool) {
	if os.Getenv(keeperMark) == "" {
		return 0, false
	}
	return keep(os.Stdin, os.Stdout), true
}

// keep returns 0 when no PostgreSQL is left, whether or not one was started.
func keep(in io.Reader, out io.Writer) int {
	// Ctrl-C and the end of the terminal are the parent's affair, and a parent
	// that is gone is noticed on stdin. Caught and dropped: to ignore them
	// would be inherited by PostgreSQL.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	// Another context, for stop would have SIGTERM end this process from then on, which
	// interruptTools sends to all of its group.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	dec := json.NewDecoder(in)
	var todo instruction
	if err := dec.Decode(&todo); err != nil {
		fmt.Fprintf(os.Stderr, "read the instruction: %v\n", err)
		return 2
	}
	// Not waited for: after SIGTERM nothing ends the read but the exit of the
	// process, which comes next.
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()

	enc := json.NewEncoder(out)
	say := func(r report) {
		// It fails only when the parent has gone, which stdin tells too.
		_ = enc.Encode(r)
	}
	left, err := work(ctx, todo, say)
	if err != nil {
		say(report{Error: err.Error()})
	}
	if left {
		return 1
	}
	return 0
}

// work does what the keeper was started for. It tells whether it leaves a
// PostgreSQL behind.
func work(ctx context.Context, todo instruction, say func(report)) (left bool, err error) {
	c, err := openCluster(todo.DataDir)
	if err != nil {
		return false, err
	}
	lock, err := c.lock(ctx)
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if todo.Temporary {
		defer func() {
			if !left {
				c.remove()
			}
		}()
	}
	if err := c.end(ctx, todo.StartTimeout/2, todo.StartTimeout); err != nil {
		return true, err
	}
	if todo.Order == sweepOrder || ctx.Err() != nil {
		return false, nil
	}
	s, err := startUnlessDone(ctx, c, todo, say)
	if err != nil {
		return c.end(ctx, stopPatience, stopTimeout) != nil, err
	}
	select {
	case <-ctx.Done():
		c.note(stopping)
		if err := c.end(ctx, stopPatience, stopTimeout); err != nil {
			return true, err
		}
		<-s.gone
		return false, nil
	case <-s.gone:
		return false, fmt.Errorf("postgresql ended by itself; its log is in %s", c.path(logDir))
	}
}

// startUnlessDone starts PostgreSQL and gives up when ctx ends, which the
// library's own start cannot.
func startUnlessDone(ctx context.Context, c *cluster, todo instruction, say func(report)) (*server, error) {
	var s *server
	var err error
	started := make(chan struct{})
	go func() {
		defer close(started)
		s, err = c.start(todo, say)
	}()
	select {
	case <-started:
		return s, err
	case <-ctx.Done():
	}
	c.note(stopping)
	// The tools that the library runs are ended until it runs no more: each
	// round meets the one of that moment. Only a download goes on; it ends
	// with this process, and its mark has the next one begin it anew.
	giveUp := time.After(interruptTimeout)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		interruptTools()
		select {
		case <-started:
			// If it got as far as a server, that is ended by the caller.
			return s, err
		case <-giveUp:
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}
