//go:build linux

// The tests look at processes through /proc.

package local_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"attune/pg/local"
)

func TestServer_SecondRun_KeepsDataAndURL(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	begun := time.Now()
	first := start(t, config(dir))
	t.Logf("first start: %s", time.Since(begun).Round(time.Millisecond))
	execute(t, first.URL(), write)
	stop(t, first)

	begun = time.Now()
	second := start(t, config(dir))
	took := time.Since(begun)
	t.Logf("second start: %s", took.Round(time.Millisecond))
	wantData(t, second)
	if diff := cmp.Diff(first.URL(), second.URL()); diff != "" {
		t.Errorf("URL changed (-first +second):\n%s", diff)
	}
	if took > 5*time.Second {
		t.Errorf("second start took %s", took)
	}
}

func TestServer_OrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("all tests run as an ordinary user already")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := number(t, nobody.Uid), number(t, nobody.Gid)
	home := filepath.Dir(dataDir(t))
	if err := os.Chown(home, uid, gid); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe",
		"-test.run=SecondRun|ParentKilled|KeeperKilled|AlreadyRunning|DefaultDataDir", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "TMPDIR="+home, "HOME="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS") < 4 {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

func TestServer_Access(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	s := start(t, config(dir))
	if got := execute(t, s.URL(), "SHOW listen_addresses"); got != "127.0.0.1" {
		t.Errorf("listen_addresses = %q", got)
	}
	if got := execute(t, s.URL(), "SHOW unix_socket_directories"); got != "" {
		t.Errorf("unix_socket_directories = %q", got)
	}
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("attune", "guessed")
	if conn, err := pgx.Connect(t.Context(), u.String()); err == nil {
		conn.Close(t.Context())
		t.Error("connected with a wrong password")
	}
	info, err := os.Stat(filepath.Join(dir, "password"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("password file has mode %o, want 600", info.Mode().Perm())
	}
}

func TestServer_ParentKilled_LeavesNothing(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	p := startParent(t, dir)
	keeper := keeperPID(t, dir)
	kill(t, p.Process.Pid)
	if err := p.Wait(); err == nil {
		t.Error("the parent was not killed")
	}
	wantNoServer(t, dir)
	eventually(t, "the keeper to end", func() bool { return ended(keeper) })
	start(t, config(dir))
}

// Restarted at once, the next attune meets a keeper that is still stopping.
func TestServer_ParentKilled_NextStartsAtOnce(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	p := startParent(t, dir)
	kill(t, p.Process.Pid)
	if err := p.Wait(); err == nil {
		t.Error("the parent was not killed")
	}
	start(t, config(dir))
}

func TestServer_KeeperKilled_StopEndsPostgreSQL(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	s := start(t, config(dir))
	postmaster := postmasterPID(t, dir)
	kill(t, keeperPID(t, dir))
	<-s.Exited()
	if s.Err() == nil {
		t.Error("Err = nil for a killed keeper")
	}
	if ended(postmaster) {
		t.Error("postgresql ended with its keeper: nothing is tested here")
	}
	stop(t, s)
	wantNoServer(t, dir)
	// Its locks are free a moment before the process is gone.
	eventually(t, "the end of postgresql", func() bool { return ended(postmaster) })
}

func TestServer_KeeperKilled_NextStartEndsPostgreSQL(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	first := start(t, config(dir))
	execute(t, first.URL(), write)
	postmaster := postmasterPID(t, dir)
	kill(t, keeperPID(t, dir))
	<-first.Exited()

	second := start(t, config(dir))
	if !ended(postmaster) {
		t.Error("the leftover postgresql still runs")
	}
	wantData(t, second)
}

func TestServer_AllKilled_NextStartRecovers(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	p := startParent(t, dir)
	// The keeper first: it would tidy up.
	for _, pid := range []int{keeperPID(t, dir), postmasterPID(t, dir), p.Process.Pid} {
		kill(t, pid)
	}
	if err := p.Wait(); err == nil {
		t.Error("the parent was not killed")
	}
	if _, err := os.Stat(filepath.Join(dir, "pgdata", "postmaster.pid")); err != nil {
		t.Errorf("no lock file is left, nothing is tested here: %v", err)
	}
	start(t, config(dir))
}

// After a kill, and a reboot perhaps, the lock file's process number may be
// another's, which must not be taken for a server.
func TestServer_StaleLockFile_SparesWhomItNames(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	stop(t, start(t, config(dir)))
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	bystander := exec.CommandContext(t.Context(), "sleep", "600")
	bystander.Dir = filepath.Join(dir, "pgdata") // as a postmaster, but it is none
	if os.Geteuid() == 0 {
		bystander.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		kill(t, bystander.Process.Pid)
		_ = bystander.Wait()
	}()
	lockFile := filepath.Join(dir, "pgdata", "postmaster.pid")
	if err := os.WriteFile(lockFile, []byte(strconv.Itoa(bystander.Process.Pid)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(lockFile, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	start(t, config(dir))
	if ended(bystander.Process.Pid) {
		t.Error("a process that is not ours was ended")
	}
}

func TestServer_PostmasterKilled_Exits(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	s := start(t, config(dir))
	kill(t, postmasterPID(t, dir))
	<-s.Exited()
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("Err = %v", err)
	}
}

func TestServer_KeeperIgnoresInterrupt(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	s := start(t, config(dir))
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if err := syscall.Kill(keeperPID(t, dir), sig); err != nil {
			t.Fatal(err)
		}
	}
	// SIGTERM comes after them, and is what ends it.
	execute(t, s.URL(), "SELECT 'here'")
	if err := syscall.Kill(keeperPID(t, dir), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-s.Exited()
	if err := s.Err(); err != nil {
		t.Errorf("Err = %v, want nil: it was asked to end", err)
	}
}

func TestStart_AlreadyRunning_SaysSo(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	first := start(t, config(dir))
	execute(t, first.URL(), write)
	wantStartError(t, config(dir), "another attune is running with data directory "+dir)
	wantData(t, first)
}

func TestStart_Cancelled_LeavesNothing(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	// In the middle of whatever it is then about.
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 300 * time.Millisecond, 600 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		s, err := local.Start(ctx, config(dir))
		cancel()
		if err == nil {
			stop(t, s)
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %s: %v", after, err)
		}
		t.Logf("after %s: %v", after, err)
		wantNoServer(t, dir)
	}
	start(t, config(dir))
}

func TestStart_PortTaken_TakesAnother(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	first := start(t, config(dir))
	execute(t, first.URL(), write)
	stop(t, first)
	u, err := url.Parse(first.URL())
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	wantData(t, start(t, config(dir)))
}

func TestStart_InitializationInterrupted_BeginsAnew(t *testing.T) {
	t.Parallel()
	dir := ours(t)
	file(t, dir, "initializing", "")
	file(t, dir, "pgdata/PG_VERSION", "15\n")
	start(t, config(dir))
}

func TestStart_UnknownMajorVersion_KeepsData(t *testing.T) {
	t.Parallel()
	dir := ours(t)
	file(t, dir, "pgdata/PG_VERSION", "42\n")
	file(t, dir, "password", "secret")
	wantStartError(t, config(dir), "needs PostgreSQL 42, which is not installed (found: ")
	wantFile(t, filepath.Join(dir, "pgdata/PG_VERSION"), "42\n")
}

func TestStart_VersionMissing_KeepsData(t *testing.T) {
	t.Parallel()
	dir := ours(t)
	file(t, dir, "pgdata/base/1/1259", "data")
	wantStartError(t, config(dir), "no readable PG_VERSION")
	wantFile(t, filepath.Join(dir, "pgdata/base/1/1259"), "data")
}

func TestStart_PasswordLost_SaysSo(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	stop(t, start(t, config(dir)))
	if err := os.Remove(filepath.Join(dir, "password")); err != nil {
		t.Fatal(err)
	}
	wantStartError(t, config(dir), "password is missing")
}

func TestStart_ServerRefuses_TellsItsLog(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	stop(t, start(t, config(dir)))
	if err := os.Remove(filepath.Join(dir, "pgdata/global/pg_control")); err != nil {
		t.Fatal(err)
	}
	wantStartError(t, config(dir), "pg_control")
}

func TestStart_ForeignDirectory_LeavesItAlone(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	file(t, dir, "thesis.txt", "mine")
	before := owner(t, dir)
	wantStartError(t, config(dir), "was not made by attune")
	if after := owner(t, dir); after != before {
		t.Errorf("owner is %d, was %d", after, before)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("entries = %v", entries)
	}
}

func TestStart_Invalid(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg  local.Config
		want string
	}{
		"RelativePath": {local.Config{DataDir: "data"}, "not an absolute path"},
		"ShellInPath":  {local.Config{DataDir: "/tmp/$(id)"}, "contains one of the characters"},
		"ShellInSetting": {
			local.Config{DataDir: "/tmp/attune-none", Settings: map[string]string{"fsync": "`id`"}},
			"contains one of the characters",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantStartError(t, tt.cfg, tt.want)
		})
	}
}

func TestStart_Root(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("what root does, only root can show")
	}

	t.Run("ParentDirectoryClosed_NamesIt", func(t *testing.T) {
		t.Parallel()
		dir := dataDir(t)
		closed := filepath.Dir(dir)
		if err := os.Chmod(closed, 0o700); err != nil {
			t.Fatal(err)
		}
		wantStartError(t, config(dir), "may not enter "+closed+":")
	})

	t.Run("LinkInDataDirectory_IsNotFollowed", func(t *testing.T) {
		t.Parallel()
		dir := ours(t)
		outside := filepath.Join(filepath.Dir(dir), "outside")
		file(t, outside, "roots", "")
		if err := os.Symlink(outside, filepath.Join(dir, "log")); err != nil {
			t.Fatal(err)
		}
		file(t, dir, "pgdata/PG_VERSION", "42\n")
		file(t, dir, "password", "secret")
		wantStartError(t, config(dir), "needs PostgreSQL 42")
		if uid := owner(t, filepath.Join(dir, "pgdata/PG_VERSION")); uid == 0 {
			t.Error("pgdata is still root's")
		}
		for _, path := range []string{outside, filepath.Join(outside, "roots")} {
			if uid := owner(t, path); uid != 0 {
				t.Errorf("%s was given to user %d", path, uid)
			}
		}
	})

	t.Run("SomeonesDirectory_RunsAsThem", func(t *testing.T) {
		t.Parallel()
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		dir := dataDir(t)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, number(t, nobody.Uid), number(t, nobody.Gid)); err != nil {
			t.Fatal(err)
		}
		start(t, config(dir))
		if uid := owner(t, filepath.Join(dir, "pgdata")); uid != number(t, nobody.Uid) {
			t.Errorf("pgdata belongs to user %d", uid)
		}
	})
}

func TestStart_Temporary_RemovesData(t *testing.T) {
	t.Parallel()
	cfg := config(dataDir(t))
	cfg.Temporary = true
	s := start(t, cfg)
	stop(t, s)
	if _, err := os.Stat(cfg.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("data directory is still there: %v", err)
	}
}

func TestDefaultDataDir(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		env  map[string]string
		want string
	}{
		"XDG":         {map[string]string{"HOME": "/home/ann", "XDG_DATA_HOME": "/data/ann"}, "/data/ann/attune"},
		"Home":        {map[string]string{"HOME": "/home/ann"}, "/home/ann/.local/share/attune"},
		"XDGRelative": {map[string]string{"HOME": "/home/ann", "XDG_DATA_HOME": "data"}, "/home/ann/.local/share/attune"},
		"NoHome":      {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if os.Geteuid() == 0 {
				tt.want = "/var/lib/attune"
			}
			if got := local.DefaultDataDir(func(name string) string { return tt.env[name] }); got != tt.want {
				t.Errorf("DefaultDataDir = %q, want %q", got, tt.want)
			}
		})
	}
}

func wantStartError(t *testing.T, cfg local.Config, want string) {
	t.Helper()
	s, err := local.Start(t.Context(), cfg)
	if err == nil {
		stop(t, s)
		t.Fatalf("started, want an error with %q", want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("error = %v, want %q in it", err, want)
	}
	t.Logf("%v", err)
}

// ours returns an empty directory that the package takes for its own.
func ours(t *testing.T) string {
	t.Helper()
	dir := dataDir(t)
	file(t, dir, "keeper.lock", "")
	return dir
}

// file writes a file, with the directories above it.
func file(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(content) != want {
		t.Errorf("%s = %q, want %q", path, content, want)
	}
}

func owner(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ended tells whether a process is gone, or would be if its parent looked.
func ended(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}
