// Package measured builds and starts the servers that benchmarks measure.
package measured

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"attune/http/selfsigned"
)

// Dir makes a temporary directory for binaries and data; the caller removes it.
func Dir(name string) (string, error) {
	dir, err := os.MkdirTemp("", name+"-")
	if err != nil {
		return "", err
	}
	// Where PostgreSQL may not run as root, another user must be able to come here.
	return dir, os.Chmod(dir, 0o755) //nolint:gosec // nothing secret is in it
}

// Build builds the command in the folder of a module.
func Build(ctx context.Context, module, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, ".") //nolint:gosec // into a directory of ours
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", module, err, out)
	}
	return nil
}

// Server is a server that was started to be measured.
type Server struct {
	// Address is where it listens, host:port.
	Address string
	// Database is the URL of attune's own PostgreSQL.
	Database string
	// Unheard is the URL of another database there, in which attune does not listen. A
	// commit with a NOTIFY wakes everybody who listens in its database.
	Unheard string

	scheme string
	cmd    *exec.Cmd
}

// StartAttune starts attune with a PostgreSQL of its own, whose data is in data, and
// waits until it is ready. Its environment is ours, with env added.
func StartAttune(binary, data string, env ...string) (*Server, error) {
	cmd := exec.Command(binary, "serve") //nolint:noctx // built by us; it is asked to stop, not killed
	cmd.Env = append(os.Environ(), "ATTUNE_LISTEN_ADDR=127.0.0.1:0", "ATTUNE_DATA_DIR="+data, "ATTUNE_LOG_LEVEL=warn", "ATTUNE_DRAIN=1s")
	cmd.Env = append(cmd.Env, env...)
	s, err := Start(cmd)
	if err != nil {
		return nil, err
	}
	password, errPassword := os.ReadFile(filepath.Join(data, "password"))
	port, errPort := os.ReadFile(filepath.Join(data, "port"))
	if err := errors.Join(errPassword, errPort); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	server := fmt.Sprintf("postgres://attune:%s@127.0.0.1:%s/", bytes.TrimSpace(password), bytes.TrimSpace(port))
	s.Database, s.Unheard = server+"attune", server+"postgres"
	return s, nil
}

// Certificate writes a self-signed certificate for 127.0.0.1 and its key into dir, and
// returns the environment with which StartAttune serves HTTPS.
func Certificate(dir string) (env []string, err error) {
	cert, key, err := selfsigned.Write(dir, 1)
	if err != nil {
		return nil, err
	}
	return []string{"ATTUNE_TLS_CERT_FILE=" + cert, "ATTUNE_TLS_KEY_FILE=" + key}, nil
}

// Start starts a server and waits until it says where it listens.
func Start(cmd *exec.Cmd) (*Server, error) {
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		_, url, listens := strings.Cut(lines.Text(), "listens on ")
		if scheme, address, ok := strings.Cut(url, "://"); ok && listens {
			return &Server{Address: address, scheme: scheme, cmd: cmd}, nil
		}
	}
	return nil, fmt.Errorf("start %s: %w", cmd.Path, errors.Join(lines.Err(), cmd.Wait()))
}

// URL is where it listens.
func (s *Server) URL() string { return s.scheme + "://" + s.Address }

// PID is its process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Stop asks the server to end, and waits until it has.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.cmd.Wait()
}
