package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"attune/bench/measured"
)

// startStatic starts this program to serve a text.
func startStatic(ctx context.Context, text string) (*measured.Server, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return measured.Start(exec.CommandContext(ctx, program, "-static", text)) //nolint:gosec // itself
}

// serveStatic answers every request with a text, through the router that attune uses:
// at once, or, where the request has a wait, when /release is asked for. /stats counts
// those that wait as attune does.
func serveStatic(ctx context.Context, text string) error {
	var held atomic.Int64
	release := make(chan struct{})
	answer := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, text)
	}
	r := chi.NewRouter()
	r.Get("/executions/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			held.Add(1)
			<-release
		}
		answer(w)
	})
	r.Get("/stats", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"longpoll":%d}`, held.Load())
	})
	r.Get("/release", func(w http.ResponseWriter, _ *http.Request) {
		held.Store(0)
		close(release)
		release = make(chan struct{}) // nobody asks while it is released
		answer(w)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is there at once
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	fmt.Println("listens on http://" + ln.Addr().String())
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
