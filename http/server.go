// Package http is attune's face: /ws, /events, /executions, health, metrics and the
// page at /, all fed by one hub.
//
// Every answer that is not a stream is JSON; every error is problem+json with a
// stable code (error.go holds the only table from codes to statuses). A stream that
// the server ends is told why before it ends.
package http

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"attune/auth"
	"attune/broadcast"
	"attune/wire"
)

// How long things may take.
const (
	// unreadyFor is how long /readyz says no before the first goodbye, so that a load
	// balancer stops sending.
	unreadyFor = 200 * time.Millisecond
	// cutAfter is how long streams have, once they should have said goodbye.
	cutAfter = time.Second
	// writeTimeout bounds one write of at most writeChunk bytes to a client.
	writeTimeout = 5 * time.Second
	writeChunk   = 64 << 10
	// answerTimeout bounds a request that is no stream, and waits for nothing.
	answerTimeout = 30 * time.Second
	// queryTimeout bounds a read that several requests share.
	queryTimeout = 10 * time.Second
)

// timeoutOf bounds writing n bytes to a client: the more they are, the longer it may
// take.
func timeoutOf(n int) time.Duration { return writeTimeout * time.Duration(1+n/writeChunk) }

// Executions reads executions. Get's error is a *wire.Error with CodeNotFound when
// there is none.
type Executions interface {
	Get(ctx context.Context, id int64) (wire.Execution, error)
	// GetMany returns those that there are, in any order.
	GetMany(ctx context.Context, ids []int64) ([]wire.Execution, error)
	List(ctx context.Context, q wire.ExecutionQuery) (wire.ExecutionList, error)
}

// Actions starts and cancels executions. Errors that are the caller's are *wire.Error.
type Actions interface {
	Create(ctx context.Context, req wire.ExecutionRequest) (wire.Execution, error)
	Cancel(ctx context.Context, id int64) (wire.Execution, error)
}

// SourceStats is what the source tells of itself.
type SourceStats struct {
	// Source is "listen" or "log".
	Source string `json:"source"`
	Live   bool   `json:"live"`
	// Problem says why notifications do not arrive; "" while they do.
	Problem string `json:"problem,omitempty"`
	// CanarySeconds is the latest round trip through PostgreSQL.
	CanarySeconds float64 `json:"canary_seconds"`
	Reconnects    uint64  `json:"reconnects"`
	// QueueUsage is how full PostgreSQL's notification queue is, 0 to 1.
	QueueUsage float64 `json:"queue_usage"`
	// Notifications counts by channel, Skipped by reason.
	Notifications map[string]uint64 `json:"notifications"`
	Skipped       map[string]uint64 `json:"skipped"`
	// Log is nil for the source listen.
	Log *LogStats `json:"log,omitempty"`
}

// LogStats is how the notification log is followed.
type LogStats struct {
	// Head is the latest seq, Pruned the latest that may be gone.
	Head   uint64 `json:"head"`
	Pruned uint64 `json:"pruned"`
	// Lag is how many rows were not published yet when the last canary came back.
	Lag uint64 `json:"lag"`
	// Losses is how often a writer's notification could not be logged.
	Losses uint64 `json:"losses"`
	// Announced and Read count rows by how they came: announced, or read from the log.
	Announced uint64 `json:"announced"`
	Read      uint64 `json:"read"`
	// Polling: rows come so fast that writers need not announce them.
	Polling bool `json:"polling"`
}

// Config is what a Server is made of.
type Config struct {
	Hub *broadcast.Hub
	// Source tells the health of what feeds the hub.
	Source func() SourceStats
	// SourceUnread reports whether the source has more to read than it came to: then
	// deliveries make way for it. It must be quick; nil: it never has.
	SourceUnread func() bool
	// Executions is nil where the database has no execution table.
	Executions Executions
	// Entities is nil where no notification log is followed.
	Entities Entities
	// Actions is nil where executions are not ours to start.
	Actions Actions
	// Auth says who is let in; nil: authentication is off.
	Auth *auth.Authority
	// Page is what / serves.
	Page fs.FS
	// Drain is how long streams have to say goodbye.
	Drain time.Duration
	// MaxConnections bounds streams and long polls, MaxPerAddress those of one client
	// address; 0: no bound.
	MaxConnections, MaxPerAddress int
	// LoopbackOnly refuses requests that name a foreign domain: that the address is a
	// loopback is all that guards the server.
	LoopbackOnly bool
	// MaxPerUser bounds the streams and long polls of one identity; 0: no bound.
	MaxPerUser int
	// RequestRate bounds the requests a second of one identity, RequestRatePerAddress
	// those of one client address, SubscribeRate what a WebSocket may ask for in a second;
	// 0: no bound.
	RequestRate, RequestRatePerAddress, SubscribeRate float64
	// TrustedProxies are those whose X-Forwarded-For and X-Forwarded-Proto are believed.
	TrustedProxies []netip.Prefix
	// Certificate has connections encrypted; nil: they are not.
	Certificate *Certificate
	// AllowedOrigins are the origins, besides the server's own, whose pages may call.
	AllowedOrigins []string
	// MetricsElsewhere leaves /metrics out of the routes: it has its own address.
	MetricsElsewhere bool
	Version          string
	Logger           *slog.Logger
}

// Server serves Config.
type Server struct {
	Config

	started  time.Time
	metrics  *metrics
	clients  atomic.Uint64 // numbers WebSocket and event stream clients
	polls    polls
	readings readings
	quick    batches // for quick turns
	patient  batches // for the others
	queue    turnQueue

	capacity          capacity
	byUser, byAddress rates // requests

	draining atomic.Bool
	closing  chan struct{}  // closed when streams shall say goodbye
	streams  sync.WaitGroup // whatever goes on for streams
	open     openStreams
}

// New returns a Server that Run starts.
func New(cfg Config) *Server {
	s := &Server{Config: cfg, started: time.Now(), closing: make(chan struct{})}
	s.quick.most, s.patient.most = quickWrite, patientWrite
	s.queue.source.unread = cfg.SourceUnread
	s.Hub.OnSettled(s.queue.settle)
	s.capacity.most, s.capacity.mostOfAddress = cfg.MaxConnections, cfg.MaxPerAddress
	s.capacity.mostOfUser = cfg.MaxPerUser
	s.byUser.perSecond, s.byAddress.perSecond = cfg.RequestRate, cfg.RequestRatePerAddress
	s.readings = readings{hub: cfg.Hub, rows: make(map[rowName]*row)}
	s.polls = polls{hub: cfg.Hub, waiting: make(map[int64]map[chan look]struct{}), changed: make(chan struct{}, 1)}
	s.metrics = newMetrics(s)
	return s
}

// Handler returns the routes. Streams outlive the requests that open them, in life.
func (s *Server) Handler(life context.Context) http.Handler {
	r := chi.NewRouter()
	r.Use(s.observe, s.recover, s.ofAddress, s.ownName, s.sameOrigin, middleware.GetHead)
	r.NotFound(s.notFound)
	r.MethodNotAllowed(s.methodNotAllowed(r))

	r.Group(func(r chi.Router) { // mounted, HEAD would not find its way
		r.Use(s.authenticate)
		r.Get("/ws", func(w http.ResponseWriter, r *http.Request) { s.handleWebSocket(life, w, r) })
		r.Get("/events", func(w http.ResponseWriter, r *http.Request) { s.handleEvents(life, w, r) })
		r.Group(func(r chi.Router) {
			r.Use(s.needExecutions)
			r.Get("/executions", s.listExecutions)
			r.Get("/executions/{id}", s.getExecution)
			r.Post("/executions", s.whileOpen(s.createExecution))
			r.Post("/executions/{id}/cancel", s.whileOpen(s.cancelExecution))
		})
		r.Get("/entities", s.listEntityTypes)
		r.Get("/entities/{type}", s.listEntities)
		r.Get("/entities/{type}/{id}", s.getEntity)
		r.Post("/tickets", s.issueTicket)
		r.Get("/session", s.showSession)
		r.Post("/session", s.openSession)
	})
	r.Group(func(r chi.Router) {
		r.Use(s.observers)
		r.Get("/stats", s.handleStats)
		if !s.MetricsElsewhere {
			r.Method(http.MethodGet, "/metrics", s.metrics.handler())
		}
	})

	// What everybody may have: whether the server is well, the page, and to go.
	r.Delete("/session", s.closeSession)
	r.Get("/livez", s.handleLive)
	r.Get("/readyz", s.handleReady)
	r.Get("/health", s.handleReady)

	page := newPage(s.Page)
	r.Get("/", page.serve(pageIndex))
	r.Get("/"+pageClient, page.serve(pageClient))
	r.Get("/assets/{version}/*", s.serveAsset(page))
	return r
}

// MetricsHandler serves /metrics alone, for an address of its own.
func (s *Server) MetricsHandler() http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.GetHead)
	r.NotFound(s.notFound)
	r.MethodNotAllowed(s.methodNotAllowed(r))
	r.Method(http.MethodGet, "/metrics", s.metrics.handler())
	return r
}

// Run serves on ln until ctx is done, then says it is not ready, says goodbye to
// every stream within Drain, finishes what it accepted, and returns within Drain and
// two seconds more. When ln fails it does the same, and returns why.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	life, endLife := context.WithCancel(context.WithoutCancel(ctx))
	defer endLife()
	srv := s.httpServer(s.Handler(life))
	served := make(chan error, 1)
	go func() {
		if s.Certificate == nil {
			served <- srv.Serve(ln)
			return
		}
		srv.TLSConfig = s.Certificate.config()
		served <- srv.ServeTLS(ln, "", "") // with HTTP/2
	}()
	polling, stopPolling := context.WithCancel(context.WithoutCancel(ctx))
	var polls sync.WaitGroup
	defer polls.Wait()
	defer stopPolling()
	polls.Go(func() { s.follow(polling) })

	var failed error
	select {
	case failed = <-served:
	case <-ctx.Done():
	}
	err := s.shutdown(context.WithoutCancel(ctx), srv, endLife)
	if failed == nil {
		failed = <-served
	}
	if !errors.Is(failed, http.ErrServerClosed) {
		err = errors.Join(fmt.Errorf("serve on %s: %w", ln.Addr(), failed), err)
	}
	return err
}

// RunMetrics serves MetricsHandler on ln until ctx is done.
func (s *Server) RunMetrics(ctx context.Context, ln net.Listener) error {
	srv := s.httpServer(s.MetricsHandler())
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		_ = srv.Close() // a scrape is not worth waiting for
	})
	err := srv.Serve(ln)
	if !stop() {
		<-stopped
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics on %s: %w", ln.Addr(), err)
	}
	return nil
}

func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		// For pages and metrics. Whoever else writes sets deadlines of his own.
		WriteTimeout:   answerTimeout,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
	}
}

// shutdown drains the server in stages; see Run. endLife ends what streams still ask
// the database.
func (s *Server) shutdown(ctx context.Context, srv *http.Server, endLife func()) error {
	s.draining.Store(true)
	unready := time.NewTimer(unreadyFor)
	defer unready.Stop()
	<-unready.C

	ctx, cancel := context.WithTimeout(ctx, s.Drain)
	defer cancel()
	var goodbyes sync.WaitGroup
	defer goodbyes.Wait()
	close(s.closing)
	goodbyes.Go(func() { s.sayGoodbye(ctx) })
	err := srv.Shutdown(ctx) // sees neither hijacked connections nor that streams shall end: hence closing
	if err == nil {
		err = s.waitStreams(ctx)
	}
	if err == nil {
		return nil
	}
	// Whoever has not gone by now does not read. That is no failure of ours.
	s.Logger.WarnContext(ctx, "clients cut at the end of the drain", slog.Any("err", err))
	endLife()
	s.open.cut()
	if err := srv.Close(); err != nil {
		return fmt.Errorf("close connections: %w", err)
	}
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), cutAfter)
	defer cancel()
	return s.waitStreams(ctx)
}

// waitStreams waits for the connections that http.Server does not know.
func (s *Server) waitStreams(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.streams.Wait()
		s.queue.stop()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for streams: %w", ctx.Err())
	}
}
