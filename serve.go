package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"attune/broadcast"
	attunehttp "attune/http"
	"attune/pg"
	"attune/pg/local"
	"attune/runner"
	"attune/web"
)

// databaseStop is how long our own PostgreSQL may take to stop.
const databaseStop = 10 * time.Second

// serveCommand returns `attune serve`, with a flag for each setting.
func serveCommand(environ map[string]string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Follow a PostgreSQL and serve its notifications",
		Long: "Follow a PostgreSQL and serve its notifications over Server-Sent Events, WebSocket and polling.\n\n" +
			"Without a database URL it brings its own PostgreSQL, with an execution table and a runner for the\n" +
			"built-in actions. Settings come from flags, then the environment:\n\n" + settingsHelp(),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settled := flagged(cmd, environ, settings())
			cfg, err := loadConfig(settled)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, settled, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	addFlags(cmd, settings())
	return cmd
}

// flagged returns the settings of environ, with those over them that were given as
// flags.
func flagged(cmd *cobra.Command, environ map[string]string, known []setting) map[string]string {
	settled := maps.Clone(environ)
	for _, s := range known {
		if f := cmd.Flags().Lookup(s.flag); f != nil && f.Changed {
			settled[s.name] = f.Value.String()
		}
	}
	return settled
}

// addFlags adds a flag for each setting.
func addFlags(cmd *cobra.Command, known []setting) {
	for _, s := range known {
		switch {
		case s.flag == "":
		case s.boolean:
			cmd.Flags().Bool(s.flag, false, s.name)
		default:
			cmd.Flags().String(s.flag, "", s.name)
		}
	}
}

// settingsHelp is the list of settings in --help.
func settingsHelp() string { return describe(settings()) }

// describe lists settings, one a line.
func describe(known []setting) string {
	var b strings.Builder
	for _, s := range known {
		fmt.Fprintf(&b, "  %-24s %s", s.name, s.description)
		if s.fallback != "" {
			fmt.Fprintf(&b, " (default %s)", s.fallback)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// serve runs the server until ctx is done, then takes it down in stages: not ready,
// goodbyes, requests and actions finished, listener, database.
func serve(ctx context.Context, cfg Config, environ map[string]string, stdout, stderr io.Writer) error {
	logger := newLogger(cfg, stderr)
	warnUnknown(ctx, logger, environ)

	// First of all, because it can fail for a reason that is quickly told.
	listeners, err := listen(ctx, cfg)
	if err != nil {
		return err
	}
	defer listeners.close()

	standalone := cfg.DatabaseURL == ""
	if standalone {
		database, err := startDatabase(ctx, &cfg, environ, logger)
		if err != nil {
			return err
		}
		defer stopDatabase(ctx, database, logger)
		return serveDatabase(ctx, cfg, database.Exited(), listeners, stdout, logger)
	}
	return serveDatabase(ctx, cfg, nil, listeners, stdout, logger)
}

// serveDatabase serves the database that cfg names. gone is closed if it ended,
// where it is our own; otherwise it is nil.
func serveDatabase(ctx context.Context, cfg Config, gone <-chan struct{}, listeners *listeners, stdout io.Writer, logger *slog.Logger) error {
	pool, direct, err := connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	defer direct.Close() // the same, mostly; closing twice is harmless
	executions, actions, err := openExecutions(ctx, cfg, gone != nil, direct, logger)
	if err != nil {
		return err
	}

	authority, keepKeys, err := openAuthority(ctx, cfg, logger.With(slog.String("component", "auth")))
	if err != nil {
		return err
	}
	var controls []pg.Control
	if authority != nil {
		controls = append(controls, newControl(authority, pool, logger))
	}
	if actions != nil {
		controls = append(controls, actions)
	}
	hub, listener, err := openSource(ctx, cfg, pool, controls, logger)
	if err != nil {
		return err
	}
	config := serverConfig(cfg, hub, listener, executions, actions, logger)
	config.Auth = authority
	if cfg.TLSCert != "" {
		if config.Certificate, err = attunehttp.OpenCertificate(cfg.TLSCert, cfg.TLSKey, config.Logger); err != nil {
			return named("ATTUNE_TLS_CERT_FILE", err)
		}
	}
	if sourceOf(listener) == sourceLog {
		config.Entities = pg.NewEntities(pool)
	}
	server := attunehttp.New(config)

	// The front is what clients see and ends first; the back, which it stands on,
	// after it. Whatever of either ends by itself takes the rest down, and is the
	// reason that serve returns.
	front, stopFront := context.WithCancelCause(ctx)
	defer stopFront(nil)
	back, stopBack := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBack()
	var backs, fronts sync.WaitGroup
	must := func(err error) {
		if err != nil {
			stopFront(err)
		}
	}
	backs.Go(func() { must(listener.Run(back)) })
	if sourceOf(listener) == sourceLog {
		backs.Go(func() { prune(back, cfg, pool, logger) })
	}
	if gone != nil {
		backs.Go(func() {
			select {
			case <-gone:
				must(errors.New("our own PostgreSQL has ended; its log is in the data directory"))
			case <-back.Done():
			}
		})
	}
	select {
	case <-listener.Live():
		scheme := "http"
		if config.Certificate != nil {
			scheme = "https"
		}
		fmt.Fprintf(stdout, "attune listens on %s://%s\n", scheme, listeners.main.Addr())
		logger.InfoContext(ctx, "ready", slog.String("addr", listeners.main.Addr().String()),
			slog.String("source", sourceOf(listener)), slog.Bool("own_database", gone != nil),
			slog.Bool("executions", executions != nil), slog.Bool("runner", actions != nil), slog.Bool("authentication", authority != nil))
		if authority != nil {
			fronts.Go(func() { keepKeys(front) })
		}
		if actions != nil {
			fronts.Go(func() { must(actions.Run(front)) })
		}
		if listeners.metrics != nil {
			fronts.Go(func() { must(server.RunMetrics(front, listeners.metrics)) })
		}
		must(server.Run(front, listeners.main))
	case <-front.Done():
	}
	stopFront(nil)
	fronts.Wait()
	stopBack()
	backs.Wait()
	if cause := context.Cause(front); ctx.Err() == nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	logger.InfoContext(ctx, "stopped")
	return nil
}

// serverConfig puts the server together. Interfaces stay nil where there is nothing
// behind them.
func serverConfig(cfg Config, hub *broadcast.Hub, listener *pg.Listener, executions *pg.Executions, actions *runner.Runner, logger *slog.Logger) attunehttp.Config {
	proxies, _ := attunehttp.ParseProxies(cfg.TrustedProxies) // was checked
	server := attunehttp.Config{
		Hub: hub, Page: web.Files(), Drain: cfg.Drain, AllowedOrigins: cfg.AllowedOrigins, LoopbackOnly: !cfg.Insecure && !cfg.authenticates(),
		MaxConnections: cfg.MaxConnections, MaxPerAddress: cfg.MaxPerAddress, MaxPerUser: cfg.MaxPerUser,
		RequestRate: cfg.RequestRate, RequestRatePerAddress: cfg.AddressRate, SubscribeRate: cfg.SubscribeRate, TrustedProxies: proxies,
		MetricsElsewhere: cfg.MetricsAddr != "", Version: version(),
		Logger: logger.With(slog.String("component", "http")),
		Source: func() attunehttp.SourceStats {
			stats := listener.Stats()
			skipped := make(map[string]uint64, len(stats.Skipped))
			for reason, n := range stats.Skipped {
				skipped[string(reason)] = n
			}
			return attunehttp.SourceStats{
				Source: sourceOf(listener), Live: stats.Live, Problem: stats.Problem, CanarySeconds: stats.CanarySeconds,
				Reconnects: stats.Reconnects, QueueUsage: stats.QueueUsage, Notifications: stats.Notifications, Skipped: skipped,
				Log: (*attunehttp.LogStats)(stats.Log),
			}
		},
		SourceUnread: listener.Unread,
	}
	if executions != nil {
		server.Executions = executions
	}
	if actions != nil {
		server.Actions = actions
	}
	return server
}

// openExecutions finds the execution table, which it makes first where the runner is
// ours, and returns nils for what there is not.
func openExecutions(ctx context.Context, cfg Config, standalone bool, pool *pgxpool.Pool, logger *slog.Logger) (*pg.Executions, *runner.Runner, error) {
	executions, err := pg.OpenExecutions(ctx, pool, cfg.Schema)
	missing := errors.Is(err, pg.ErrNoExecutions)
	if err != nil && !missing {
		return nil, nil, err
	}
	if !cfg.Runner.on(standalone) {
		if missing {
			logger.WarnContext(ctx, "no execution table: /executions answers 501, the streams work", slog.String("schema", cfg.Schema))
		}
		return executions, nil, nil
	}
	// A platform's own table is left as it is.
	if err := pg.Migrate(ctx, pool, cfg.Schema); err != nil {
		return nil, nil, err
	}
	if executions, err = pg.OpenExecutions(ctx, pool, cfg.Schema); err != nil {
		return nil, nil, err
	}
	if err := runner.Migrate(ctx, pool); err != nil {
		return nil, nil, err
	}
	actions, err := runner.New(runner.Config{
		Pool: pool, Store: executions, Workers: cfg.Workers, DrainTimeout: cfg.Drain,
		Logger: logger.With(slog.String("component", "runner")),
	})
	return executions, actions, err
}

// connect opens the way that writers go, and one on which a session is a session,
// which is another one where writers go through a pooler: migrations and the runner
// need it.
func connect(ctx context.Context, cfg Config) (pool, direct *pgxpool.Pool, err error) {
	if cfg.ListenURL == "" || cfg.ListenURL == cfg.DatabaseURL {
		pool, err = pg.Connect(ctx, cfg.DatabaseURL)
		return pool, pool, err
	}
	if pool, err = pg.Connect(ctx, cfg.DatabaseURL, pg.ThroughPooler()); err != nil {
		return nil, nil, err
	}
	if direct, err = pg.Connect(ctx, cfg.ListenURL); err != nil {
		pool.Close()
		return nil, nil, fmt.Errorf("ATTUNE_LISTEN_URL: %w", err)
	}
	return pool, direct, nil
}

// startDatabase starts our own PostgreSQL and puts its URL into cfg.
func startDatabase(ctx context.Context, cfg *Config, environ map[string]string, logger *slog.Logger) (*local.Server, error) {
	dir := cfg.DataDir
	if dir == "" {
		dir = local.DefaultDataDir(func(name string) string { return environ[name] })
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	database, err := local.Start(ctx, local.Config{DataDir: dir, Logger: logger.With(slog.String("component", "pg/local"))})
	if err != nil {
		return nil, err
	}
	cfg.DatabaseURL = database.URL()
	return database, nil
}

func stopDatabase(ctx context.Context, database *local.Server, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), databaseStop)
	defer cancel()
	if err := database.Stop(ctx); err != nil {
		logger.ErrorContext(ctx, "stop our own PostgreSQL", slog.Any("err", err))
	}
}

// listeners are the sockets that serve serves on; metrics is nil without an address
// of its own.
type listeners struct{ main, metrics net.Listener }

func listen(ctx context.Context, cfg Config) (*listeners, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", cfg.ListenAddr)
	if err != nil {
		return nil, fmt.Errorf("ATTUNE_LISTEN_ADDR: %w", err)
	}
	l := &listeners{main: ln}
	if cfg.MetricsAddr == "" {
		return l, nil
	}
	if l.metrics, err = lc.Listen(ctx, "tcp", cfg.MetricsAddr); err != nil {
		l.close()
		return nil, fmt.Errorf("ATTUNE_METRICS_ADDR: %w", err)
	}
	return l, nil
}

// close closes what no server has closed yet.
func (l *listeners) close() {
	_ = l.main.Close()
	if l.metrics != nil {
		_ = l.metrics.Close()
	}
}

func newLogger(cfg Config, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// warnUnknown names variables that look like settings and are none: a typing error
// would otherwise be a default that nobody asked for.
func warnUnknown(ctx context.Context, logger *slog.Logger, environ map[string]string) {
	known := []string{"ATTUNE_URL", "ATTUNE_TOKEN", "ATTUNE_PROFILE"} // the clients'
	for _, s := range settings() {
		known = append(known, s.name)
	}
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		if strings.HasPrefix(name, "ATTUNE_") && !slices.Contains(known, name) {
			logger.WarnContext(ctx, "unknown setting in the environment", slog.String("name", name))
		}
	}
}
