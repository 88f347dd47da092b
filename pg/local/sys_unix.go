//go:build unix

package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// errLocked says that another process has the lock.
var errLocked = errors.New("locked by another process")

// prepare creates the data directory where it is missing and returns the
// attributes that start a keeper for it: in a session of its own, so that a
// terminal's signals pass it by, and as the directory's owner, if we are root.
func prepare(dir string) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() != 0 {
		return attr, os.MkdirAll(dir, 0o700)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // others must get through
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	// From here on the directory is held open: what a name in it stands for
	// may change, what we work on does not.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	uid, gid, err := owner(root)
	if err != nil {
		return nil, err
	}
	if uid == 0 {
		if uid, gid, err = account(); err != nil {
			return nil, err
		}
		if err := give(root, uid, gid); err != nil {
			return nil, err
		}
	}
	attr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	return attr, nil
}

// owner returns who owns a directory.
func owner(root *os.Root) (uid, gid uint32, err error) {
	info, err := root.Stat(".")
	if err != nil {
		return 0, 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fmt.Errorf("stat %s: no owner", root.Name())
	}
	return stat.Uid, stat.Gid, nil
}

// account returns the unprivileged account that PostgreSQL runs as when we are
// root.
func account() (uid, gid uint32, err error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("PostgreSQL can not run as root, and there is neither a user postgres nor nobody: %w", err)
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("user %s: %w", u.Username, err)
	}
	group, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("user %s: %w", u.Username, err)
	}
	return uint32(id), uint32(group), nil
}

// give hands a data directory of root's, new or restored from a backup, to the
// account. Links in it are given as links, never followed.
func give(root *os.Root, uid, gid uint32) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	if _, err := root.Lstat(keeperLock); err != nil && len(entries) > 0 {
		return foreign(root.Name())
	}
	return fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return root.Lchown(path, int(uid), int(gid))
	})
}

// accountName names the user this process runs as.
func accountName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Geteuid())
}

// tryLock opens and locks a file. It returns errLocked when another process
// has it.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// waitLock returns when nobody has the lock any more.
func waitLock(path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	for errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_EX), syscall.EINTR) {
	}
}

// inherit lets the processes started from now on have the open file.
func inherit(f *os.File) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("inherit %s: %w", f.Name(), err)
	}
	return nil
}

// fastShutdown asks a postmaster to end its clients and to stop.
func fastShutdown(pid int) error { return send(pid, syscall.SIGINT) }

// immediateShutdown asks a postmaster to stop as if it had crashed: what is
// committed stays, and the next start takes longer.
func immediateShutdown(pid int) error { return send(pid, syscall.SIGQUIT) }

// interruptTools ends what this keeper is just running: initdb, pg_ctl. The
// keeper leads their process group, and takes the signal itself for what it
// has been told before. The server is in a group of its own.
func interruptTools() {
	if syscall.Getpgrp() == os.Getpid() {
		_ = syscall.Kill(0, syscall.SIGTERM)
	}
}

// send signals a process, which may be gone.
func send(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// alive tells whether there is such a process of our user.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// runsOn tells whether the process is a PostgreSQL that works in pgdata.
func runsOn(pid int, pgdata string) bool {
	if runtime.GOOS == "linux" {
		proc := filepath.Join("/proc", strconv.Itoa(pid))
		cwd, err := os.Readlink(filepath.Join(proc, "cwd"))
		if err != nil || cwd != pgdata {
			return false
		}
		name, err := os.ReadFile(filepath.Join(proc, "comm"))
		return err == nil && strings.TrimSpace(string(name)) == "postgres"
	}
	args, err := exec.Command("ps", "-o", "args=", "-p", strconv.Itoa(pid)).Output() //nolint:gosec,noctx // a number; returns at once
	return err == nil && strings.Contains(string(args), "postgres") && strings.Contains(string(args), pgdata)
}
