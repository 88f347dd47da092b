package pgtest

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Proxy stands between a client and PostgreSQL and breaks what networks, poolers and
// other people break. It understands the protocol as far as it needs: sslmode
// must be disable.
type Proxy struct {
	// URL leads to the database, through the proxy.
	URL string

	t      *testing.T
	ln     net.Listener
	target string
	wg     sync.WaitGroup

	mu      sync.Mutex
	links   map[*link]struct{}
	closed  bool
	refused bool // new connections are closed at once
	muffled bool // no notification gets through, on any connection
	stalled bool // new connections get no answer
}

// link is one connection through the proxy.
type link struct {
	proxy          *Proxy
	client, server net.Conn

	mu       sync.Mutex
	stalled  bool // nothing from the server gets through
	torn     bool // one notification gets through, with half of another, and then nothing
	injected int  // answers from the server that the client did not ask for
}

// Types of the server's messages.
const (
	notification  = 'A'
	readyForQuery = 'Z'
)

// NewProxy starts a proxy to the server of a database; it ends with t.
func NewProxy(t *testing.T, database string) *Proxy {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{t: t, ln: ln, target: u.Host, links: make(map[*link]struct{})}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		_ = ln.Close()
		p.Cut()
		p.wg.Wait()
	})
	u.Host = ln.Addr().String()
	p.URL = u.String()
	return p
}

func (p *Proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refused := p.refused
		p.mu.Unlock()
		if refused {
			_ = client.Close()
			continue
		}
		var dialer net.Dialer
		server, err := dialer.DialContext(p.t.Context(), "tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		l := &link{proxy: p, client: client, server: server, stalled: p.stalled}
		p.links[l] = struct{}{}
		if p.closed {
			l.close()
		}
		p.mu.Unlock()
		p.wg.Go(func() {
			_, _ = io.Copy(server, client)
			l.close()
		})
		p.wg.Go(func() {
			l.answers()
			l.close()
			p.mu.Lock()
			delete(p.links, l)
			p.mu.Unlock()
		})
	}
}

// answers forwards the server's messages, but for those that must not get through.
func (l *link) answers() {
	for {
		head := make([]byte, 5) // type, length of the rest with the length itself
		if _, err := io.ReadFull(l.server, head); err != nil {
			return
		}
		message := append(head, make([]byte, binary.BigEndian.Uint32(head[1:])-4)...)
		if _, err := io.ReadFull(l.server, message[5:]); err != nil {
			return
		}
		if l.swallow(message[0]) {
			continue
		}
		if l.tear(message[0]) {
			message = append(message, message[:len(message)/2]...)
		}
		if _, err := l.client.Write(message); err != nil {
			return
		}
	}
}

// swallow reports whether a message of that type must not get through.
func (l *link) swallow(kind byte) bool {
	l.proxy.mu.Lock()
	muffled := l.proxy.muffled
	l.proxy.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.injected > 0 {
		if kind == readyForQuery {
			l.injected--
		}
		return true
	}
	return l.stalled || muffled && kind == notification
}

// tear reports whether a message of that type is the last one, to be followed by half of
// another.
func (l *link) tear(kind byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.torn || kind != notification {
		return false
	}
	l.stalled = true
	return true
}

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// each calls do with every open connection.
func (p *Proxy) each(do func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		do(l)
	}
}

// Cut closes all connections.
func (p *Proxy) Cut() { p.each(func(l *link) { l.close() }) }

// Refuse makes the server unreachable, or reachable again.
func (p *Proxy) Refuse(refused bool) {
	p.mu.Lock()
	p.refused = refused
	p.mu.Unlock()
	if refused {
		p.Cut()
	}
}

// HalfOpen keeps all connections open but lets nothing come back on them any more;
// those made from now on get answers if answers is true.
func (p *Proxy) HalfOpen(answers bool) {
	p.each(func(l *link) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.stalled = true
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = !answers
}

// Tear keeps all connections open, and lets one notification more come back on each, and
// the first half of it once more.
func (p *Proxy) Tear() {
	p.each(func(l *link) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.torn = true
	})
}

// Muffle keeps all notifications back, as a transaction pooler does.
func (p *Proxy) Muffle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.muffled = true
}

// Inject runs sql in the sessions behind all connections, which must be idle, without
// the client's knowledge.
func (p *Proxy) Inject(sql string) {
	message := []byte{'Q'}
	message = binary.BigEndian.AppendUint32(message, uint32(4+len(sql)+1)) //nolint:gosec // a statement of a test
	message = append(append(message, sql...), 0)
	p.each(func(l *link) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.injected++
		if _, err := l.server.Write(message); err != nil {
			p.t.Errorf("inject %q: %v", sql, err)
		}
	})
}
