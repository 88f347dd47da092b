package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

// client is a connection over which requests are made one after the other. It does as
// little as it may: what it costs is missing to the server.
type client struct {
	conn    net.Conn
	r       *bufio.Reader
	request []byte
}

// dial connects; n spreads many connections over loopback addresses, each of which has
// ports of its own.
func dial(ctx context.Context, n int, address, path, headers string) (*client, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+n%16))}} //nolint:gosec // 1 to 16
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\n" + headers + "\r\n"
	return &client{conn, bufio.NewReader(conn), []byte(request)}, nil
}

func (c *client) send() error {
	_, err := c.conn.Write(c.request)
	return err
}

// receive reads an answer and discards it.
func (c *client) receive() error {
	length := -1
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && string(line) != "HTTP/1.1 200 OK\r\n" {
			return fmt.Errorf("answered %q", line)
		}
		if len(line) == 2 {
			break
		}
		if name, value, _ := strings.Cut(string(line), ": "); name == "Content-Length" {
			if _, err := fmt.Sscan(value, &length); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("an answer without Content-Length")
	}
	_, err := c.r.Discard(length)
	return err
}

// requests returns how many requests a second are answered over n connections.
func requests(ctx context.Context, address, path, headers string, n int, turn time.Duration) (float64, error) {
	return perSecond(ctx, n, turn, func(ctx context.Context, i int, more func() bool) error {
		c, err := dial(ctx, i, address, path, headers)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		for more() {
			if err := errors.Join(c.send(), c.receive()); err != nil {
				return err
			}
		}
		return nil
	})
}

// selects returns how many times a second a row is read from the database by n at once.
func selects(ctx context.Context, pool *pgxpool.Pool, id int64, n int, turn time.Duration) (float64, error) {
	return perSecond(ctx, n, turn, func(ctx context.Context, _ int, more func() bool) error {
		for more() {
			var status string
			err := pool.QueryRow(ctx, `SELECT status::text FROM attune.execution WHERE id = $1`, id).Scan(&status)
			if err != nil {
				return fmt.Errorf("read execution %d: %w", id, err)
			}
		}
		return nil
	})
}

// perSecond runs n workers for as long as turn and returns how often more was asked.
func perSecond(ctx context.Context, n int, turn time.Duration, worker func(ctx context.Context, i int, more func() bool) error) (float64, error) {
	var count atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	begun := time.Now()
	more := func() bool {
		if time.Since(begun) > turn {
			return false
		}
		count.Add(1)
		return true
	}
	for i := range n {
		group.Go(func() error { return worker(ctx, i, more) })
	}
	err := group.Wait()
	return float64(count.Load()) / time.Since(begun).Seconds(), err
}

// waiters opens n long polls, has what they wait for happen, and returns how long after
// that the last was answered. ready is called once all wait.
func waiters(ctx context.Context, address, path string, n int, ready, happen func() error) (last time.Duration, err error) {
	clients := make([]*client, n)
	for i := range clients {
		c, err := dial(ctx, i, address, path+"?wait=2m&until=terminal", "")
		if err != nil {
			return 0, err
		}
		defer c.conn.Close()
		if err := c.send(); err != nil {
			return 0, err
		}
		clients[i] = c
	}
	answers, err := watch(clients)
	if err != nil {
		return 0, err
	}
	defer answers.close()
	if err := errors.Join(longPolls(ctx, address, n), ready(), happen()); err != nil {
		return 0, err
	}
	happened := time.Now()
	err = answers.await(ctx)
	return time.Since(happened), err
}

// longPolls waits until n long polls are open.
func longPolls(ctx context.Context, address string, n int) error {
	want := fmt.Sprintf(`"longpoll":%d`, n)
	for {
		body, err := get(ctx, "http://"+address+"/stats")
		if err != nil {
			return err
		}
		if strings.Contains(strings.ReplaceAll(body, " ", ""), want) {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// scans returns how often the execution table was read, once PostgreSQL has counted:
// a session reports what it did when it has been idle for a second.
func scans(ctx context.Context, pool *pgxpool.Pool) (n int64, err error) {
	if err := pause(ctx, 3*time.Second); err != nil {
		return 0, err
	}
	err = pool.QueryRow(ctx, `SELECT idx_scan + seq_scan FROM pg_stat_user_tables
		WHERE schemaname = 'attune' AND relname = 'execution'`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the reads: %w", err)
	}
	return n, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func readAll(resp *http.Response) (string, error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", resp.Request.URL, resp.Status, b)
	}
	return string(b), err
}
