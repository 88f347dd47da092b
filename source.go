package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"attune/broadcast"
	"attune/pg"
	"attune/pg/live"
)

// openSource finds the source that ATTUNE_SOURCE asks for, and returns the hub that
// it feeds. The controls hear what is not for clients.
func openSource(ctx context.Context, cfg Config, pool *pgxpool.Pool, controls []pg.Control, logger *slog.Logger) (*broadcast.Hub, *pg.Listener, error) {
	opts := broadcast.Options{QueueSize: cfg.QueueSize, QueueBytes: cfg.QueueBytes, MaxFilters: cfg.MaxFilters, WindowSize: cfg.WindowSize, WindowBytes: cfg.WindowBytes}
	listen := pg.ListenerConfig{
		URL: cfg.ListenURL, Pool: pool, Channels: cfg.Channels, CanaryInterval: cfg.CanaryInterval, Controls: controls,
		Logger: logger.With(slog.String("component", "pg")),
	}
	if listen.URL == "" {
		listen.URL = cfg.DatabaseURL
	}
	var log *pg.Log
	if cfg.Source != sourceListen {
		var err error
		log, err = pg.OpenLog(ctx, pool)
		missing := errors.Is(err, pg.ErrNoLog)
		if missing && cfg.Source == sourceLog {
			return nil, nil, fmt.Errorf("ATTUNE_SOURCE=log: %w: `attune db install` makes it", err)
		}
		if err != nil && !missing {
			return nil, nil, err
		}
	}
	if log == nil {
		hub := broadcast.New(opts)
		return hub, pg.NewListener(listen, hub), nil
	}
	opts.Backlog = log
	hub := broadcast.New(opts)
	return hub, pg.NewLogListener(listen, log, hub), nil
}

// pruneEvery is how often what the log need not keep is deleted.
const pruneEvery = time.Minute

// prune keeps the log within its bounds until ctx is done. Several instances may do
// so: one of them does.
func prune(ctx context.Context, cfg Config, pool *pgxpool.Pool, logger *slog.Logger) {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	for {
		deleted, err := live.Prune(ctx, pool, live.Retention{MaxAge: cfg.LogMaxAge, MaxRows: cfg.LogMaxRows})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			logger.WarnContext(ctx, "prune the log", slog.Any("err", err))
		case deleted > 0:
			logger.InfoContext(ctx, "log pruned", slog.Int64("rows", deleted))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// sourceOf names the source that a listener follows.
func sourceOf(listener *pg.Listener) string {
	if listener.Stats().Log != nil {
		return sourceLog
	}
	return sourceListen
}
