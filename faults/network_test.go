package faults_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// network is a network between two parties that can be made as bad as networks get.
type network struct {
	t        *testing.T
	server   *toxiproxy.ApiServer
	proxy    *toxiproxy.Proxy
	upstream string
	addr     string
}

// newNetwork starts a network in front of an address, with an address of its own.
func newNetwork(t *testing.T, upstream string) *network {
	t.Helper()
	n := &network{
		t: t, upstream: upstream,
		server: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()),
	}
	// Below the ports that connections get by themselves: one of those could take it
	// while the network is being healed.
	eventually(t, "a free port", func() bool {
		n.addr = fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		return n.start() == nil
	})
	t.Cleanup(func() { n.proxy.Stop() })
	return n
}

func (n *network) start() error {
	n.proxy = toxiproxy.NewProxy(n.server, n.t.Name(), n.addr, n.upstream)
	return n.proxy.Start()
}

// heal cuts all connections; those that are made from now on are good.
func (n *network) heal() {
	n.t.Helper()
	n.proxy.Stop()
	eventually(n.t, "the port is free again", func() bool { return n.start() == nil })
}

// toxic is something bad that a network does.
type toxic struct {
	kind       string
	stream     string // "upstream" is to the server, "downstream" from it
	attributes string // JSON
}

func (x toxic) String() string { return x.kind + " " + x.stream }

// toxics are all that are tried, on all connections at once. What they do lasts until
// heal or remove.
func toxics() []toxic {
	return []toxic{
		{"latency", "downstream", `{"latency": 80, "jitter": 60}`},
		{"latency", "upstream", `{"latency": 80, "jitter": 60}`},
		{"bandwidth", "downstream", `{"rate": 40}`}, // kB/s
		{"slicer", "downstream", `{"average_size": 20, "size_variation": 15, "delay": 100}`},
		{"timeout", "downstream", `{"timeout": 0}`}, // half-open: nothing comes, nothing is closed
		{"timeout", "upstream", `{"timeout": 0}`},
		{"timeout", "downstream", `{"timeout": 300}`}, // nothing comes for a while, then the end
		{"reset_peer", "downstream", `{"timeout": 50}`},
		{"limit_data", "downstream", `{"bytes": 3000}`}, // the end in the midst of a message
		{"slow_close", "downstream", `{"delay": 500}`},
	}
}

// add puts a toxic on every connection, those that are open included.
func (n *network) add(x toxic) {
	n.t.Helper()
	n.within(x.String(), func() error {
		_, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
			`{"name": "it", "type": %q, "stream": %q, "toxicity": 1, "attributes": %s}`, x.kind, x.stream, x.attributes)))
		return err
	})
}

// remove takes the toxic away; connections that it has left open go on.
func (n *network) remove() {
	n.t.Helper()
	n.within("remove", func() error { return n.proxy.Toxics.RemoveToxic(n.t.Context(), "it") })
}

// within bounds what may wait for a connection that does not take anything.
func (n *network) within(what string, do func() error) {
	n.t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		if err != nil {
			n.t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(patience):
		n.t.Fatalf("%s: toxiproxy is stuck", what)
	}
}

// hostOf returns the address in a URL.
func hostOf(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// at returns a URL with another address.
func at(t *testing.T, text, addr string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = addr
	return u.String()
}
