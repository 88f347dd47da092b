package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The entries of a data directory.
const (
	keeperLock   = "keeper.lock"   // locked by the keeper; holds its pid and state; marks the directory as ours
	postgresLock = "postgres.lock" // locked by every process of the server
	pgData       = "pgdata"        // PostgreSQL's own data directory
	logDir       = "log"           // PostgreSQL's log, a file per weekday
	passwordFile = "password"
	portFile     = "port"         // of the last run, preferred by the next
	initMark     = "initializing" // exists while pgdata is not yet complete
	binDir       = "postgresql"   // downloaded binaries, by version
	fetchMark    = "downloading"  // exists while they are not yet complete
	cacheDir     = "download"
	runDir       = "run" // the library's: emptied by it at every start
	tmpDir       = "tmp" // emptied by us at every start
)

// State of a keeper, as it stands in its lock file.
const (
	running  = "running"
	stopping = "stopping"
)

const pollInterval = 20 * time.Millisecond

// cluster is a data directory, seen by the keeper.
type cluster struct {
	dir string // without symbolic links
}

// openCluster returns the cluster in dir, which exists and is empty or ours.
func openCluster(dir string) (*cluster, error) {
	resolved, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil, blocked(dir)
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(resolved)
	if errors.Is(err, fs.ErrPermission) {
		return nil, blocked(dir)
	}
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: resolved}
	if len(entries) > 0 && !exists(c.path(keeperLock)) {
		return nil, foreign(dir)
	}
	return c, nil
}

func (c *cluster) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

// lock makes this process the keeper of the data directory. It waits for one
// that is stopping, and a moment for one whose parent may just have ended.
func (c *cluster) lock(ctx context.Context) (*os.File, error) {
	const grace = time.Second
	begun := time.Now()
	for {
		f, err := tryLock(c.path(keeperLock))
		if err == nil {
			c.note(running)
			return f, nil
		}
		if !errors.Is(err, errLocked) {
			return nil, err
		}
		pid, state, _ := strings.Cut(c.text(keeperLock), " ")
		if state != stopping && time.Since(begun) > grace {
			return nil, fmt.Errorf("another attune is running with data directory %s (its database keeper is process %s): "+
				"stop it, or choose another directory", c.dir, pid)
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// note writes this keeper's state where another one that waits finds it. It is
// there for people and for waiting, the lock is what counts.
func (c *cluster) note(state string) {
	_ = os.WriteFile(c.path(keeperLock), fmt.Appendf(nil, "%d %s\n", os.Getpid(), state), 0o600)
}

// running tells whether a process of the server lives.
func (c *cluster) running() bool {
	if c.postmaster() != 0 {
		return true
	}
	f, err := tryLock(c.path(postgresLock))
	if err != nil {
		return errors.Is(err, errLocked)
	}
	return f.Close() != nil
}

// end stops a server that runs on our data, whoever started it, and removes a
// lock file that would keep the next one from starting. It goes on when ctx
// ends: that is when it is needed. A server that has not stopped when patience is
// over is cut short: no commit is lost by it, the next start recovers from the log.
func (c *cluster) end(ctx context.Context, patience, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	urge := time.Now().Add(patience)
	asked, urged := 0, 0
	for c.running() {
		// A postmaster that was killed leaves processes that find out by
		// themselves: for them it is only to wait.
		pid := c.postmaster()
		var err error
		switch {
		case pid == 0:
		case pid != asked:
			asked, err = pid, fastShutdown(pid)
		case pid != urged && time.Now().After(urge):
			urged, err = pid, immediateShutdown(pid)
		}
		if err != nil {
			return fmt.Errorf("stop process %d: %w", pid, err)
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for the server on %s to stop: %w", c.path(pgData), err)
		}
	}
	// PostgreSQL itself clears a lock file whose process is gone, and only
	// after a look at shared memory; that is left to it. It gives up, though,
	// where the number has meanwhile gone to another process of this user.
	if pid := c.lockFilePID(); pid != 0 && alive(pid) {
		return os.Remove(c.path(pgData, "postmaster.pid"))
	}
	return nil
}

// postmaster returns the process that runs on our data, or 0.
func (c *cluster) postmaster() int {
	if pid := c.lockFilePID(); pid != 0 && runsOn(pid, c.path(pgData)) {
		return pid
	}
	return 0
}

// lockFilePID returns the process that PostgreSQL's lock file names, or 0.
func (c *cluster) lockFilePID() int {
	first, _, _ := strings.Cut(c.text(pgData, "postmaster.pid"), "\n")
	pid, err := strconv.Atoi(strings.TrimPrefix(first, "-")) // negative: a server for a single user
	if err != nil {
		return 0
	}
	return pid
}

// text returns the content of a small file, or "" when there is none.
func (c *cluster) text(elem ...string) string {
	content, err := os.ReadFile(c.path(elem...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

// remove removes what the package has made, and nothing else.
func (c *cluster) remove() {
	for _, name := range []string{
		pgData, logDir, passwordFile, portFile, initMark, binDir, fetchMark, cacheDir, runDir, tmpDir, postgresLock, keeperLock,
	} {
		_ = os.RemoveAll(c.path(name))
	}
	_ = os.Remove(c.dir)
}

// pause waits a little, or returns the cause of ctx's end.
func pause(ctx context.Context) error {
	timer := time.NewTimer(pollInterval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// foreign is the error for a directory that somebody else uses.
func foreign(dir string) error {
	return fmt.Errorf("data directory %s is not empty and was not made by attune: choose an empty one", dir)
}

// blocked returns the error for a directory that this account cannot reach.
func blocked(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		parent := filepath.Dir(at)
		if _, err := os.Stat(parent); err == nil || parent == at {
			where := at
			if _, err := os.Stat(at); err != nil {
				where = parent
			}
			return fmt.Errorf("user %s, which PostgreSQL is to run as, may not enter %s: "+
				"choose a data directory elsewhere, or allow it (chmod o+x %s)", accountName(), where, where)
		}
	}
}
