package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	embedded "github.com/fergusstrange/embedded-postgres"
)

const (
	role     = "attune" // the superuser
	database = "attune"
)

// server is a running PostgreSQL, seen by the keeper.
type server struct {
	cluster *cluster
	gone    chan struct{} // closed when no process of the server is left
}

// start starts PostgreSQL on the cluster, which it initializes if it is new.
// The caller holds the keeper's lock, and no server is running; after an error
// one may be.
func (c *cluster) start(todo instruction, say func(report)) (*server, error) {
	for _, dir := range []string{tmpDir, runDir} {
		if err := os.RemoveAll(c.path(dir)); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(c.path(tmpDir), 0o700); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.path(logDir), 0o700); err != nil {
		return nil, err
	}
	major, err := c.major()
	if err != nil {
		return nil, err
	}
	password, err := c.password(major == "")
	if err != nil {
		return nil, err
	}
	bin, fetch, err := c.binaries(major)
	if err != nil {
		return nil, err
	}
	if fetch {
		say(report{Downloading: bin.version})
	}
	if !ofMajor(bin.version, major) {
		// The library would empty the data directory.
		return nil, fmt.Errorf("PostgreSQL %s was chosen for data of %s", bin.version, major)
	}
	cfg := embedded.DefaultConfig().
		Version(embedded.PostgresVersion(bin.version)).
		BinariesPath(bin.prefix).
		CachePath(c.path(cacheDir)).
		RuntimePath(c.path(runDir)).
		DataPath(c.path(pgData)).
		Username(role).
		Password(password).
		Database(database).
		Locale("C").
		Encoding("UTF8").
		StartTimeout(todo.StartTimeout).
		StartParameters(c.settings(todo.Settings)).
		Logger(nil)
	begun := time.Now()
	port, err := c.launch(cfg, major == "")
	switch {
	case err != nil && !bin.complete():
		return nil, fmt.Errorf("download PostgreSQL %s, as none that fits is installed (found: %s): %w: "+
			"install one, or set DATABASE_URL", bin.version, names(installed()), err)
	case err != nil:
		return nil, fmt.Errorf("%w%s", err, c.logSince(begun))
	case fetch:
		if err := c.unmark(fetchMark); err != nil {
			return nil, err
		}
	}
	s := &server{cluster: c, gone: make(chan struct{})}
	go s.watch() // ends with the server; work waits for it
	say(report{Version: bin.version, URL: (&url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(role, password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		Path:     database,
		RawQuery: "sslmode=disable",
	}).String()})
	return s, nil
}

// launch starts PostgreSQL on a free port. Between the choice of a port and its
// use another process may take it; then it is tried with another.
func (c *cluster) launch(cfg embedded.Config, initialize bool) (port int, err error) {
	// Every process of the server inherits this lock. It is what tells a later
	// keeper, and this one, that there is one.
	lock, err := tryLock(c.path(postgresLock))
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	if err := inherit(lock); err != nil {
		return 0, err
	}
	if initialize {
		if err := os.WriteFile(c.path(initMark), nil, 0o600); err != nil {
			return 0, err
		}
	}
	port, err = strconv.Atoi(c.text(portFile))
	if err != nil || taken(port) {
		if port, err = freePort(); err != nil {
			return 0, err
		}
	}
	for attempt := 1; ; attempt++ {
		err := embedded.NewDatabase(cfg.Port(uint32(port))).Start() //nolint:gosec // a port
		if err == nil {
			err = os.WriteFile(c.path(portFile), []byte(strconv.Itoa(port)), 0o600)
			if err == nil && initialize {
				err = c.unmark(initMark)
			}
			return port, err
		}
		if attempt == 5 || !taken(port) || c.postmaster() != 0 {
			return 0, err
		}
		if initialize {
			// The library takes what is there for complete, and it is not.
			if err := os.RemoveAll(c.path(pgData)); err != nil {
				return 0, err
			}
		}
		if port, err = freePort(); err != nil {
			return 0, err
		}
	}
}

// watch waits for the end of the server: its processes have inherited the
// lock, so it can be had when the last of them is gone.
func (s *server) watch() {
	defer close(s.gone)
	waitLock(s.cluster.path(postgresLock))
}

// major returns the major version of the data, or "" when there is none yet.
func (c *cluster) major() (string, error) {
	if exists(c.path(initMark)) {
		// An initialization that was killed: nobody has had the URL of this
		// database, so nothing is lost.
		if err := os.RemoveAll(c.path(pgData)); err != nil {
			return "", err
		}
	}
	if major := c.text(pgData, "PG_VERSION"); major != "" {
		return major, nil
	}
	entries, err := os.ReadDir(c.path(pgData))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("%s holds files, but no readable PG_VERSION: restore it, or move the directory away", c.path(pgData))
	}
	return "", nil
}

// unmark removes a mark for good: one that came back after a power failure
// would have the next start throw away what has been completed.
func (c *cluster) unmark(name string) error {
	if err := os.Remove(c.path(name)); err != nil {
		return err
	}
	dir, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// password returns the superuser's password, and makes one if the database is
// new.
func (c *cluster) password(fresh bool) (string, error) {
	path := c.path(passwordFile)
	if password := c.text(passwordFile); password != "" {
		return password, nil
	}
	if !fresh {
		return "", fmt.Errorf("%s is missing or empty: without it there is no access to the database beside it", path)
	}
	password := rand.Text()
	return password, os.WriteFile(path, []byte(password), 0o600)
}

// binaries returns the PostgreSQL to use for data of the given major version,
// and whether it has still to be downloaded.
func (c *cluster) binaries(major string) (bin binaries, fetch bool, err error) {
	all := installed()
	if bin, ok := choose(all, major); ok {
		return bin, false, nil
	}
	version, err := downloadable(major)
	if err != nil {
		return binaries{}, false, fmt.Errorf("the data in %s needs PostgreSQL %s, which is not installed (found: %s): %w",
			c.path(pgData), major, names(all), err)
	}
	bin = binaries{prefix: c.path(binDir, version), version: version}
	if exists(c.path(fetchMark)) {
		// The library takes an interrupted download for a complete one.
		if err := os.RemoveAll(c.path(binDir)); err != nil {
			return binaries{}, false, err
		}
	}
	if bin.complete() {
		return bin, false, nil
	}
	return bin, true, os.WriteFile(c.path(fetchMark), nil, 0o600)
}

// settings returns the server's settings: the caller's, and over them ours.
func (c *cluster) settings(callers map[string]string) map[string]string {
	all := maps.Clone(callers)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, map[string]string{
		"listen_addresses": "127.0.0.1",
		// Debian's default is a directory that only its own server can write.
		"unix_socket_directories": "",
		// A file per weekday, so that the log stays within bounds.
		"logging_collector":        "on",
		"log_directory":            c.path(logDir),
		"log_filename":             "postgresql-%a.log",
		"log_truncate_on_rotation": "on",
		"log_rotation_age":         "1d",
		"log_rotation_size":        "0",
	})
	return all
}

// logSince returns what PostgreSQL has logged since, for an error message.
func (c *cluster) logSince(begun time.Time) string {
	const lines = 10
	logs, err := filepath.Glob(c.path(logDir, "*.log"))
	if err != nil {
		return ""
	}
	for _, path := range logs {
		info, err := os.Stat(path)
		if err != nil || info.ModTime().Before(begun) {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		all := strings.Split(strings.TrimSpace(string(content)), "\n")
		return "\n" + strings.Join(all[max(0, len(all)-lines):], "\n")
	}
	return ""
}

// freePort returns a port that is free now.
func freePort() (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// taken tells whether another process has the port.
func taken(port int) bool {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return true
	}
	return l.Close() != nil
}
