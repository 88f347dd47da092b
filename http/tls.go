package http

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateEvery is how often the files of a certificate are looked at.
const certificateEvery = time.Second

// Certificate is a certificate and its key in PEM files, which may be replaced while it
// is in use: new connections get the new one.
type Certificate struct {
	certFile, keyFile string
	logger            *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	version [2]time.Time // when the files were changed
	looked  time.Time
}

// OpenCertificate reads a certificate and its key.
func OpenCertificate(certFile, keyFile string, logger *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, logger: logger}
	version, err := c.stat()
	if err != nil {
		return nil, err
	}
	return c, c.read(version)
}

// config is how connections are encrypted.
func (c *Certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.get(hello.Context()), nil
		},
	}
}

// get returns the certificate as it is now. Files that cannot be read, one of two that
// was replaced, leave the one that is known.
func (c *Certificate) get(ctx context.Context) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < certificateEvery {
		return c.current
	}
	version, err := c.stat()
	if err == nil && version != c.version {
		if err = c.read(version); err == nil {
			c.logger.InfoContext(ctx, "certificate replaced", slog.String("file", c.certFile))
		}
	}
	if err != nil {
		c.logger.WarnContext(ctx, "certificate not read: the one before still counts", slog.Any("err", err))
	}
	c.looked = time.Now()
	return c.current
}

func (c *Certificate) stat() (version [2]time.Time, err error) {
	for i, file := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(file)
		if err != nil {
			return version, err
		}
		version[i] = info.ModTime()
	}
	return version, nil
}

func (c *Certificate) read(version [2]time.Time) error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("%s with the key in %s: %w", c.certFile, c.keyFile, err)
	}
	c.current, c.version = &pair, version
	return nil
}
