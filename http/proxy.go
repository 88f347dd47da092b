package http

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ParseProxies parses addresses and networks of proxies, such as 10.0.0.0/8 or ::1.
func ParseProxies(texts []string) ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			address, err := netip.ParseAddr(text)
			if err != nil || address.Zone() != "" {
				return nil, fmt.Errorf("%q: want an address or a network such as 10.0.0.0/8", text)
			}
			prefix = netip.PrefixFrom(address, address.BitLen())
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, nil
}

// clientAddress returns where a request comes from, for limits: an address of IPv4, or the
// network of an address of IPv6, of which a client has as many as it likes.
func (s *Server) clientAddress(r *http.Request) string {
	address := s.forwardedFor(r)
	if ip, err := netip.ParseAddr(address); err == nil && ip.Is6() && !ip.Is4In6() {
		if network, err := ip.WithZone("").Prefix(clientPrefix); err == nil {
			return network.String()
		}
	}
	return address
}

// clientPrefix is how long the network of a client is, in bits.
const clientPrefix = 64

// forwardedFor returns the peer, or, behind a proxy that is trusted, the last address in
// X-Forwarded-For that is no trusted proxy's itself. What stands before that anybody may
// have written.
func (s *Server) forwardedFor(r *http.Request) string {
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	if !s.trusts(peer) {
		return peer
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		address, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			return peer
		}
		if peer = address.Unmap().String(); !s.trusts(peer) {
			return peer
		}
	}
	return peer
}

// encrypted reports whether the client's connection is: ours, or that to a proxy that is
// trusted.
func (s *Server) encrypted(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !s.trusts(peer) {
		return false
	}
	schemes := strings.Split(strings.Join(r.Header.Values("X-Forwarded-Proto"), ","), ",")
	return strings.EqualFold(strings.TrimSpace(schemes[len(schemes)-1]), "https")
}

// trusts reports whether an address is a trusted proxy's.
func (s *Server) trusts(address string) bool {
	if len(s.TrustedProxies) == 0 {
		return false
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	ip = ip.Unmap().WithZone("")
	for _, proxy := range s.TrustedProxies {
		if proxy.Contains(ip) {
			return true
		}
	}
	return false
}
