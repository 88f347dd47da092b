package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"

	"attune/wire"
)

// How a key set is read.
const (
	jwksTimeout = 10 * time.Second
	jwksMax     = 1 << 20 // bytes
	// jwksEvery is how often the set is read again: a key that the issuer takes out
	// counts no longer than that.
	jwksEvery = 5 * time.Minute
	// A token with a key that is not known has the set read again, but no oftener.
	jwksUnknownEvery = 5 * time.Second
)

// JWKS are the Keys that an issuer publishes at a URL. They are read by Read, again by
// Run on an interval, and again when a token names one that is not known: so an issuer
// may rotate them. While they cannot be read those that are known are kept.
type JWKS struct {
	url       string
	algorithm string
	client    *http.Client
	logger    *slog.Logger
	unknown   *rate.Limiter

	reading sync.Mutex // held while the set is read
	mu      sync.RWMutex
	keys    map[string][]any // by kid
	all     jwt.VerificationKeySet
}

// NewJWKS returns the Keys at a URL, for one algorithm: RS256, ES256 or EdDSA. Nothing is
// read yet.
func NewJWKS(address, algorithm string, logger *slog.Logger) (*JWKS, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname()))) {
		return nil, errors.New("want an https URL, or http for a loopback address: whoever can change what comes from there can be anybody")
	}
	if !slices.Contains([]string{RS256, ES256, EdDSA}, algorithm) {
		return nil, fmt.Errorf("algorithm %q: want RS256, ES256 or EdDSA, the one that the issuer signs with", algorithm)
	}
	return &JWKS{
		url: address, algorithm: algorithm, logger: logger,
		client: &http.Client{
			Timeout:       jwksTimeout,
			Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		unknown: rate.NewLimiter(rate.Every(jwksUnknownEvery), 1),
	}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// Algorithm implements Keys.
func (s *JWKS) Algorithm() string { return s.algorithm }

// Run reads the keys again on an interval until ctx is done.
func (s *JWKS) Run(ctx context.Context) {
	ticker := time.NewTicker(jwksEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if err := s.Read(ctx); err != nil && ctx.Err() == nil {
			s.logger.WarnContext(ctx, "key set not read: those that are known still count", slog.Any("err", err))
		}
	}
}

// Key implements Keys.
func (s *JWKS) Key(ctx context.Context, token *jwt.Token) (any, error) {
	if key, ok := s.find(token); ok {
		return key, nil
	}
	// Others may have read it while this one waited.
	s.reading.Lock()
	defer s.reading.Unlock()
	if key, ok := s.find(token); ok {
		return key, nil
	}
	if !s.unknown.Allow() {
		return nil, errNoKey
	}
	if err := s.read(ctx); err != nil {
		s.logger.WarnContext(ctx, "key set not read for a key that is not known", slog.Any("err", err))
		return nil, errKeysAway
	}
	if key, ok := s.find(token); ok {
		return key, nil
	}
	return nil, errNoKey
}

// find returns the key that a token names, or all for one that names none.
func (s *JWKS) find(token *jwt.Token) (any, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	kid, named := token.Header["kid"]
	if !named {
		return s.all, len(s.all.Keys) > 0
	}
	text, _ := kid.(string)
	keys := s.keys[text]
	if len(keys) == 1 {
		return keys[0], true
	}
	set := jwt.VerificationKeySet{}
	for _, key := range keys {
		set.Keys = append(set.Keys, key)
	}
	return set, len(keys) > 0
}

// Read reads the keys now. Keys of other kinds than the algorithm's are passed over;
// with none left it is an error.
func (s *JWKS) Read(ctx context.Context) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	return s.read(ctx)
}

func (s *JWKS) read(ctx context.Context) error {
	// The request that asked for a key may be given up: others want it too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jwksTimeout)
	defer cancel()
	body, err := s.get(ctx)
	if err != nil {
		return fmt.Errorf("read %s: %w", s.url, err)
	}
	keys, err := decodeKeys(body, s.algorithm)
	if err != nil {
		return fmt.Errorf("read %s: %w", s.url, err)
	}
	var all jwt.VerificationKeySet
	for _, some := range keys {
		for _, key := range some {
			all.Keys = append(all.Keys, key)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.all = keys, all
	return nil
}

func (s *JWKS) get(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %s", resp.Status)
	}
	return io.ReadAll(http.MaxBytesReader(nil, resp.Body, jwksMax))
}

// decodeKeys returns the keys of a set that sign by that algorithm, by kid.
func decodeKeys(body []byte, algorithm string) (map[string][]any, error) {
	members, err := wire.Object(body)
	var raw []json.RawMessage
	if err == nil {
		err = json.Unmarshal(members["keys"], &raw)
	}
	if err != nil {
		return nil, errors.New(`want a JSON Web Key Set: {"keys":[…]}`)
	}
	keys := make(map[string][]any)
	for _, one := range raw {
		if key, kid, ok := decodeKey(one, algorithm); ok {
			keys[kid] = append(keys[kid], key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("none of its %d keys is for %s signatures", len(raw), algorithm)
	}
	return keys, nil
}

// decodeKey decodes a public key. One that is for something else is none.
func decodeKey(raw json.RawMessage, algorithm string) (key any, kid string, ok bool) {
	var about struct {
		Alg string `json:"alg"`
		Use string `json:"use"`
		Kid string `json:"kid"`
	}
	if json.Unmarshal(raw, &about) != nil || (about.Use != "" && about.Use != "sig") || (about.Alg != "" && about.Alg != algorithm) {
		return nil, "", false
	}
	decoder, err := keyfunc.NewJWKSetJSON(fmt.Appendf(nil, `{"keys":[%s]}`, raw))
	if err != nil {
		return nil, "", false
	}
	set, err := decoder.VerificationKeySet(context.Background())
	if err != nil || len(set.Keys) != 1 {
		return nil, "", false
	}
	own, err := algorithmOf(set.Keys[0])
	return set.Keys[0], about.Kid, err == nil && own == algorithm
}
