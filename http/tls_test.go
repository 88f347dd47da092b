package http_test

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	attunehttp "attune/http"
	"attune/http/selfsigned"
)

// certificate writes a certificate for 127.0.0.1 and its key into dir.
func certificate(t *testing.T, dir string, serial int64) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile, err := selfsigned.Write(dir, serial)
	if err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1_700_000_000+serial, 0) // each its own, however coarse the file system's clock
	if err := errors.Join(os.Chtimes(certFile, when, when), os.Chtimes(keyFile, when, when)); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

// TestTLS: streams over HTTP/2, of which a browser may have many, WebSockets over
// HTTP/1.1, and certificates that are replaced.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := certificate(t, dir, 1)
	opened, err := attunehttp.OpenCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, withAuth(t), func(cfg *setup) { cfg.Certificate = opened })
	s.url = "https" + s.url[len("http"):]
	transport := s.http.Transport.(*http.Transport)
	transport.ForceAttemptHTTP2 = true
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	bearer := []string{"Authorization", "Bearer " + token(t, 7)}

	streams := make([]*stream, 20)
	for i := range streams {
		streams[i] = s.opened("", bearer...)
		equal(t, "protocol", streams[i].resp.Proto, "HTTP/2.0")
	}
	// Longer than a write may take, and so long that nothing is written in it.
	s.publish(1)
	quiet := time.NewTimer(6 * time.Second)
	for _, st := range streams {
		equal(t, "at once", st.ids(1), []int64{1})
	}
	<-quiet.C
	s.publish(2)
	for _, st := range streams {
		equal(t, "after a while", st.ids(1), []int64{2})
	}
	a := s.do("POST", "/session", "", bearer...).want(200)
	cookie, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
	if err != nil || !cookie.Secure {
		t.Errorf("cookie %v, %v", cookie, err)
	}

	// A WebSocket's client asks for HTTP/1.1.
	one := *s
	one.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}}}
	t.Cleanup(one.http.CloseIdleConnections)
	c := one.socket("/ws", bearer...)
	equal(t, "first", c.next()["type"], any("welcome"))
	s.get("/ws", bearer...).problem(426, "invalid_parameter", "WebSocket")

	shake := func(config *tls.Config) (serial int64, err error) {
		var dialer net.Dialer
		raw, err := dialer.DialContext(t.Context(), "tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn := tls.Client(raw, config)
		defer conn.Close()
		if err := conn.HandshakeContext(t.Context()); err != nil {
			return 0, err
		}
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
	}
	serial := func() int64 {
		n, err := shake(&tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	equal(t, "serial", serial(), 1)
	certificate(t, dir, 2)
	eventually(t, "the new certificate", func() bool { return serial() == 2 })
	if err := os.WriteFile(keyFile, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	equal(t, "serial", serial(), 2)

	if _, err := shake(&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	for _, st := range streams[:3] {
		st.bye("server_shutdown")
	}
	c.closed(1001)

	if _, err := attunehttp.OpenCertificate(certFile, keyFile, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("what is no key was accepted")
	}
}
