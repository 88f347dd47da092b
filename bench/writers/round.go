package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// warmUp is how long a pgbench runs before its turns: it connects, and fills caches.
const warmUp = time.Second

// bench is a pgbench that writes the table of a variant.
type bench struct {
	variant
	cmd    *exec.Cmd
	stderr *strings.Builder
	// before is what was committed before the round, warm before the turns.
	before, warm int
	active       time.Duration
}

// round has every variant take its turns, checks that all that was committed was
// told, and adds the commits a second to results.
func (cfg config) round(ctx context.Context, conn *pgx.Conn, clients int, results map[string][]float64) (err error) {
	dir, err := os.MkdirTemp("", "writers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := startListener(ctx, cfg.url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.end()) }()
	var all []*bench
	defer func() {
		for _, b := range all {
			b.kill()
		}
	}()
	for _, v := range variants() {
		b := &bench{variant: v, stderr: &strings.Builder{}}
		if b.before, err = commits(ctx, conn, v); err != nil {
			return err
		}
		if b.cmd, err = cfg.pgbenchOf(ctx, dir, v, clients, b.stderr); err != nil {
			return err
		}
		all = append(all, b)
		if err := b.goOn(ctx, warmUp); err != nil {
			return err
		}
		b.active = 0
	}
	for _, b := range all {
		if b.warm, err = commits(ctx, conn, b.variant); err != nil {
			return err
		}
	}
	for i := range cfg.turns {
		for j := range all {
			// Not always the same one before the same.
			if err := all[(i+j)%len(all)].goOn(ctx, cfg.turn); err != nil {
				return err
			}
		}
	}
	for _, b := range all {
		b.kill()
	}
	if err := settle(ctx, conn); err != nil {
		return err
	}
	for _, b := range all {
		n, err := commits(ctx, conn, b.variant)
		if err != nil {
			return err
		}
		if b.channel != "" {
			if heard := l.heard(ctx, b.channel, n-b.before); heard != n-b.before {
				return fmt.Errorf("%s: %d notifications of %d commits", b.name, heard, n-b.before)
			}
		}
		results[b.name] = append(results[b.name], float64(n-b.warm)/b.active.Seconds())
	}
	return nil
}

// pgbenchOf starts the pgbench of a variant.
func (cfg config) pgbenchOf(ctx context.Context, dir string, v variant, clients int, stderr *strings.Builder) (*exec.Cmd, error) {
	server, err := url.Parse(cfg.url)
	if err != nil {
		return nil, err
	}
	script := filepath.Join(dir, v.name+".sql")
	statements := fmt.Sprintf("\\set id random(1, %d)\nUPDATE bench_writers.%s SET total = total + 1 WHERE id = :id;\n", cfg.rows, v.name)
	if err := os.WriteFile(script, []byte(statements), 0o600); err != nil {
		return nil, err
	}
	//nolint:gosec // the program is chosen by whoever runs this
	cmd := exec.CommandContext(ctx, cfg.pgbench, "-n", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)),
		"-T", "3600", "-f", script, strings.TrimPrefix(server.Path, "/"))
	password, _ := server.User.Password()
	cmd.Env = append(os.Environ(), "PGHOST="+server.Hostname(), "PGPORT="+server.Port(),
		"PGUSER="+server.User.Username(), "PGPASSWORD="+password)
	cmd.Stderr = stderr
	return cmd, cmd.Start()
}

// goOn lets the pgbench run for a while and stops it again. Its statements that are
// under way then end by themselves.
func (b *bench) goOn(ctx context.Context, turn time.Duration) error {
	begun := time.Now()
	if err := b.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("%s: %w: %s", b.name, err, b.stderr)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(turn):
	}
	if err := b.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("%s: %w: %s", b.name, err, b.stderr)
	}
	b.active += time.Since(begun)
	return nil
}

// kill ends the pgbench, if it has not ended.
func (b *bench) kill() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait() // it says that it was killed
}

// settle returns when no session of a pgbench is left.
func settle(ctx context.Context, conn *pgx.Conn) error {
	for {
		var busy bool
		err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE application_name = 'pgbench')`).Scan(&busy)
		if err != nil || !busy {
			return err
		}
	}
}

// commits returns how often rows of a variant's table were written.
func commits(ctx context.Context, conn *pgx.Conn, v variant) (n int, err error) {
	err = conn.QueryRow(ctx, `SELECT sum(total) FROM `+pgx.Identifier{"bench_writers", v.name}.Sanitize()).Scan(&n)
	return n, err
}
