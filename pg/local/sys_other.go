//go:build !unix

package local

import (
	"errors"
	"os"
	"syscall"
)

// errLocked says that another process has the lock.
var errLocked = errors.New("locked by another process")

// prepare refuses: what the keeper rests on, sessions and inherited locks, is
// Unix. With no keeper the rest of this file is never reached.
func prepare(string) (*syscall.SysProcAttr, error) {
	return nil, errors.New("attune brings its own PostgreSQL on Unix only: set DATABASE_URL")
}

func accountName() string              { return "" }
func tryLock(string) (*os.File, error) { return nil, errors.ErrUnsupported }
func waitLock(string)                  {}
func inherit(*os.File) error           { return errors.ErrUnsupported }
func fastShutdown(int) error           { return errors.ErrUnsupported }
func immediateShutdown(int) error      { return errors.ErrUnsupported }
func interruptTools()                  {}
func alive(int) bool                   { return false }
func runsOn(int, string) bool          { return false }
