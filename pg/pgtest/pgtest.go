// Package pgtest gives tests a real PostgreSQL: one server for the tests of a
// package, and in it a database for each test, copied from a template.
//
// A test that cannot have its database fails; it is never skipped. Nothing is
// left when the tests end, however they end.
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		url := pgtest.Database(t)
//		…
//	}
package pgtest

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"attune/pg/local"
)

const (
	templateName = "pgtest_template"
	timeout      = time.Minute
)

// shared is the server of this test process.
//
//nolint:gochecknoglobals // one per process is the point: Database finds it without being handed it by every test
var shared cluster

// cluster is the server of a test process, started when a test first asks for
// a database.
type cluster struct {
	template func(ctx context.Context, url string) error
	left     []goleak.Option

	mu        sync.Mutex
	inMain    bool // Main runs: there is somebody to stop the server
	server    *local.Server
	err       error // why there is no server; it is not tried twice
	databases int
}

// Option changes what Main does.
type Option func(*cluster)

// WithTemplate has fill prepare the database that those of the tests are
// copied from. Its connections must be closed when it returns.
func WithTemplate(fill func(ctx context.Context, url string) error) Option {
	return func(c *cluster) { c.template = fill }
}

// WithGoroutinesLeft bears goroutines in whose stacks these functions are: those of a
// library that leaves them behind.
func WithGoroutinesLeft(functions ...string) Option {
	return func(c *cluster) {
		for _, name := range functions {
			c.left = append(c.left, goleak.IgnoreAnyFunction(name))
		}
	}
}

// Main runs the tests of a package, stops the server that they used, and looks
// for goroutines that they have left running. It returns the exit code. In a
// process that is the server's keeper it runs that instead.
func Main(m *testing.M, options ...Option) int {
	if code, keeper := local.Main(); keeper {
		return code
	}
	for _, option := range options {
		option(&shared)
	}
	shared.inMain = true
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintf(os.Stderr, "pgtest: %v\n", err)
		code = max(code, 1)
	}
	// Goroutines of tests that failed say nothing new.
	if code == 0 {
		if err := goleak.Find(shared.left...); err != nil {
			fmt.Fprintf(os.Stderr, "pgtest: %v\n", err)
			code = 1
		}
	}
	return code
}

// Database creates a database for t and returns its URL. It is dropped when t
// ends, with the connections that are still open.
func Database(tb testing.TB) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	admin, n, err := shared.get(ctx)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	name := fmt.Sprintf("test_%d", n)
	if err := run(ctx, admin, "CREATE DATABASE "+name+" TEMPLATE "+templateName); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := run(ctx, admin, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("pgtest: %v", err)
		}
	})
	return inDatabase(admin, name)
}

// get returns the URL of the server's administrative database and a number
// that no other caller got. It starts the server if need be.
func (c *cluster) get(ctx context.Context) (admin string, n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.inMain {
		return "", 0, fmt.Errorf("TestMain does not call pgtest.Main")
	}
	if c.server == nil && c.err == nil {
		c.err = c.start(ctx)
	}
	if c.err != nil {
		return "", 0, c.err
	}
	c.databases++
	return inDatabase(c.server.URL(), "postgres"), c.databases, nil
}

func (c *cluster) start(ctx context.Context) error {
	cfg, err := config()
	if err != nil {
		return err
	}
	cfg.Temporary = true
	if c.server, err = local.Start(ctx, cfg); err != nil {
		return err
	}
	admin := inDatabase(c.server.URL(), "postgres")
	if err := run(ctx, admin, "CREATE DATABASE "+templateName); err != nil {
		return err
	}
	if c.template != nil {
		if err := c.template(ctx, inDatabase(admin, templateName)); err != nil {
			return fmt.Errorf("fill the template: %w", err)
		}
	}
	// A connection to the template would make CREATE DATABASE wait.
	return run(ctx, admin, "ALTER DATABASE "+templateName+" WITH IS_TEMPLATE true ALLOW_CONNECTIONS false")
}

func (c *cluster) stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return c.server.Stop(ctx)
}

// config returns the configuration of a server for tests: on a directory of
// its own, and fast rather than safe.
func config() (local.Config, error) {
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		return local.Config{}, err
	}
	return local.Config{
		DataDir: dir,
		Settings: map[string]string{
			"fsync":              "off",
			"full_page_writes":   "off",
			"synchronous_commit": "off",
			"max_connections":    "200",
		},
		StartTimeout: timeout,
		Logger:       slog.New(slog.DiscardHandler),
	}, nil
}

// run executes one statement on a connection of its own.
func run(ctx context.Context, url, statement string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// inDatabase returns a server's URL with another database.
func inDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		return server // local makes it: it parses
	}
	u.Path = "/" + name
	return u.String()
}
