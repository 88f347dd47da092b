// Package local runs the PostgreSQL that attune brings itself when it is given
// no other.
//
// The database runs under a keeper: the same binary, started a second time in
// a session of its own, as an unprivileged user where the first runs as root,
// because PostgreSQL refuses to run as root. The keeper holds the read end of a
// pipe whose write end only its parent has, so it learns of the parent's end
// however that comes, SIGKILL included, and stops PostgreSQL.
//
// The package promises that
//   - data is kept between runs, and never removed because something about it
//     is not understood;
//   - one keeper at most works on a data directory, and whatever a killed run
//     left behind (a lock file, a running server, half an initialization) is
//     put in order by the next;
//   - the server is reachable from this machine only, with a password that is
//     stored in the data directory, readable by its owner alone.
package local

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

const (
	defaultStartTimeout = time.Minute
	downloadTimeout     = 10 * time.Minute
	stopTimeout         = 30 * time.Second
	stopPatience        = time.Second // the process is to be gone 2 s after its drain
)

// Config says where the data is and how the server is to run.
type Config struct {
	// DataDir is the absolute path of the data directory. It is created when
	// missing; one that exists must be empty or made by this package.
	DataDir string
	// Settings are server settings, such as fsync=off in tests. Those that the
	// package's promises rest on (addresses, sockets, log) cannot be set.
	Settings map[string]string
	// Temporary has the data directory removed when PostgreSQL has stopped,
	// however this process ended.
	Temporary bool
	// StartTimeout bounds Start, downloads apart. Zero means one minute.
	StartTimeout time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// Server is a running PostgreSQL and its keeper.
type Server struct {
	cfg    Config
	keeper *keeper
	url    string
}

// Start starts PostgreSQL on the data directory and returns when it accepts
// connections. ctx bounds the start, not the life of the server: the caller
// must Stop it, also when it has exited by itself.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.StartTimeout <= 0 {
		cfg.StartTimeout = defaultStartTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("start postgresql: %w", err)
	}
	k, err := startKeeper(ctx, cfg, startOrder)
	if err != nil {
		return nil, fmt.Errorf("start postgresql: %w", err)
	}
	s := &Server{cfg: cfg, keeper: k}
	if err := s.awaitReady(ctx); err != nil {
		// The start was given up, the stop must not be.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if stopErr := s.end(ctx); stopErr != nil {
			cfg.Logger.WarnContext(ctx, "stop after an unsuccessful start", slog.Any("err", stopErr))
		}
		return nil, fmt.Errorf("start postgresql: %w", err)
	}
	return s, nil
}

// URL returns the URL of the database "attune". It contains the password: it
// is not for logs.
func (s *Server) URL() string { return s.url }

// Exited returns a channel that is closed when the server has ended, by itself
// or by Stop.
func (s *Server) Exited() <-chan struct{} { return s.keeper.exited }

// Err tells, once Exited is closed, why the server ended; nil means that it was
// asked to.
func (s *Server) Err() error {
	select {
	case <-s.keeper.exited:
		return s.keeper.failure()
	default:
		return nil
	}
}

// Stop stops PostgreSQL, waits for the keeper and returns nil when neither is
// left. When ctx ends before that, they are killed; the next start recovers.
// Stop is needed after Exited too: a keeper that was killed leaves a running
// server.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.end(ctx); err != nil {
		return fmt.Errorf("stop postgresql: %w", err)
	}
	s.cfg.Logger.InfoContext(ctx, "postgresql stopped", slog.String("data_dir", s.cfg.DataDir))
	return nil
}

func (s *Server) awaitReady(ctx context.Context) error {
	begun := time.Now()
	timeout := time.NewTimer(s.cfg.StartTimeout)
	defer timeout.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timeout.C:
			return fmt.Errorf("not ready after %s", time.Since(begun).Round(time.Second))
		case r, ok := <-s.keeper.reports:
			switch {
			case !ok:
				<-s.keeper.exited
				return cmp.Or(s.keeper.failure(), errors.New("the keeper was asked to end"))
			case r.Error != "":
				return errors.New(r.Error)
			case r.Downloading != "":
				s.cfg.Logger.InfoContext(ctx, "downloading postgresql", slog.String("version", r.Downloading))
				timeout.Reset(downloadTimeout)
			default:
				s.url = r.URL
				s.cfg.Logger.InfoContext(ctx, "postgresql started",
					slog.String("version", r.Version),
					slog.String("data_dir", s.cfg.DataDir),
					slog.Duration("took", time.Since(begun).Round(time.Millisecond)))
				return nil
			}
		}
	}
}

// end ends the keeper, and whatever a keeper that did not end as it should has
// left.
func (s *Server) end(ctx context.Context) error {
	if s.keeper.end(ctx) != nil {
		// A killed keeper cannot stop PostgreSQL any more; another one can. It
		// is given its own time, as ctx may be what has ended the first.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err := sweep(ctx, s.cfg); err != nil {
			return err
		}
	}
	if s.cfg.Temporary {
		// Emptied by the keeper, which may lack the right to remove it.
		if err := os.Remove(s.cfg.DataDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sweep has a keeper stop what another one has left.
func sweep(ctx context.Context, cfg Config) error {
	k, err := startKeeper(ctx, cfg, sweepOrder)
	if err != nil {
		return err
	}
	select {
	case <-k.exited:
		return k.failure()
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), k.end(ctx))
	}
}

func (cfg Config) validate() error {
	if !filepath.IsAbs(cfg.DataDir) {
		return fmt.Errorf("data directory %q is not an absolute path", cfg.DataDir)
	}
	// pg_ctl hands both to a shell, in double quotes.
	const special = "\"$`\\\n"
	if strings.ContainsAny(cfg.DataDir, special) {
		return fmt.Errorf("data directory %q contains one of the characters \" $ ` \\", cfg.DataDir)
	}
	for name, value := range cfg.Settings {
		if strings.ContainsAny(name+value, special) {
			return fmt.Errorf("setting %s=%q contains one of the characters \" $ ` \\", name, value)
		}
	}
	return nil
}

// keeper is the parent's view of a keeper process.
type keeper struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	reports chan report
	ending  sync.Once

	exited chan struct{} // once it is closed, the following can be read
	err    error         // how the process ended
	said   string        // why, in its own words
	stderr *bytes.Buffer
}

func startKeeper(ctx context.Context, cfg Config, what order) (*keeper, error) {
	attr, err := prepare(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	exe, err := executable()
	if err != nil {
		return nil, err
	}
	// Not ended by ctx: the keeper is asked to end, so that it can stop
	// PostgreSQL.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), exe) //nolint:gosec // our own binary
	cmd.Args = []string{os.Args[0], "database-keeper"}          // for ps
	cmd.Dir = "/"
	cmd.Env = keeperEnv(cfg)
	cmd.SysProcAttr = attr
	k := &keeper{
		cmd: cmd,
		// The keeper reports three times at most: that it downloads, that it
		// is ready, why it ended. Nobody needs to read for it to go on.
		reports: make(chan report, 3),
		exited:  make(chan struct{}),
		stderr:  &bytes.Buffer{},
	}
	cmd.Stderr = k.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	k.stdin = stdin
	go k.watch(stdout) // end waits for it
	instruction := instruction{
		Order:        what,
		DataDir:      cfg.DataDir,
		Settings:     cfg.Settings,
		Temporary:    cfg.Temporary,
		StartTimeout: cfg.StartTimeout,
	}
	if err := json.NewEncoder(stdin).Encode(instruction); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("instruct the keeper: %w", err), k.end(ctx))
	}
	return k, nil
}

// watch passes the keeper's reports on until it ends.
func (k *keeper) watch(stdout io.Reader) {
	defer close(k.exited)
	for dec := json.NewDecoder(stdout); ; {
		var r report
		if err := dec.Decode(&r); err != nil {
			break
		}
		if r.Error != "" {
			k.said = r.Error
		}
		k.reports <- r
	}
	close(k.reports)
	k.err = k.cmd.Wait()
}

// end asks the keeper to stop PostgreSQL and to exit, and kills it when ctx
// ends first. It returns nil when the keeper ended as it should: then no
// PostgreSQL is left.
func (k *keeper) end(ctx context.Context) error {
	k.ending.Do(func() {
		// It fails only where the keeper has gone, which exited tells too.
		_ = k.stdin.Close()
	})
	select {
	case <-k.exited:
	case <-ctx.Done():
		if err := k.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill the keeper: %w", err)
		}
		<-k.exited
	}
	if k.err != nil {
		return k.failure()
	}
	return nil
}

// failure returns why the keeper has exited, nil if it was asked to.
func (k *keeper) failure() error {
	switch stderr := strings.TrimSpace(k.stderr.String()); {
	case k.said != "":
		return errors.New(k.said)
	case k.err != nil && stderr != "":
		return fmt.Errorf("keeper: %w: %s", k.err, stderr)
	case k.err != nil:
		return fmt.Errorf("keeper: %w", k.err)
	default:
		return nil
	}
}

// executable returns what to execute to run this binary again. On Linux that
// is not its path: go run and go test put it where only root can go.
func executable() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// keeperEnv returns the keeper's environment: what PostgreSQL and a download
// need, and no more. The parent's secrets are not for the keeper's account,
// and a PGHOST or LC_ALL of the user's would change what the tools do.
func keeperEnv(cfg Config) []string {
	env := []string{
		keeperMark + "=1",
		"LC_ALL=C",
		"HOME=" + cfg.DataDir,
		// The library leaves its log where TMPDIR says.
		"TMPDIR=" + filepath.Join(cfg.DataDir, tmpDir),
		fmt.Sprintf("PGCTLTIMEOUT=%d", int(cfg.StartTimeout.Seconds())),
	}
	for _, name := range []string{
		"PATH", "LD_LIBRARY_PATH", "GOCOVERDIR", "GORACE", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
