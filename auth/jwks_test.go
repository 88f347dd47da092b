package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"attune/auth"
	"attune/wire"
)

// issuer publishes keys, as it is told.
type issuer struct {
	url string

	mu     sync.Mutex
	body   string
	status int
	reads  int
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{status: http.StatusOK}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.reads++
		w.WriteHeader(i.status)
		_, _ = w.Write([]byte(i.body))
	}))
	t.Cleanup(s.Close)
	i.url = s.URL
	return i
}

// publish makes these the keys.
func (i *issuer) publish(keys ...map[string]any) {
	b, _ := json.Marshal(map[string]any{"keys": keys})
	i.mu.Lock()
	defer i.mu.Unlock()
	i.body = string(b)
}

func (i *issuer) answers(status int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.status = status
}

func (i *issuer) asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.reads
}

// jwk is a public key as a set has it, with changes.
func jwk(t *testing.T, kid string, key crypto.PublicKey, changes ...string) map[string]any {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString
	var k map[string]any
	switch key := key.(type) {
	case *rsa.PublicKey:
		k = map[string]any{"kty": "RSA", "n": text(key.N.Bytes()), "e": text(big.NewInt(int64(key.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		k = map[string]any{"kty": "EC", "crv": "P-256", "x": text(point[1:33]), "y": text(point[33:])}
	case ed25519.PublicKey:
		k = map[string]any{"kty": "OKP", "crv": "Ed25519", "x": text(key)}
	}
	k["kid"] = kid
	for i := 0; i < len(changes); i += 2 {
		k[changes[i]] = changes[i+1]
	}
	return k
}

func TestJWKS(t *testing.T) {
	rsaKey, ecKey, edKey := keys(t)
	for algorithm, c := range map[string]struct {
		method jwt.SigningMethod
		key    crypto.Signer
	}{
		auth.RS256: {jwt.SigningMethodRS256, rsaKey}, auth.ES256: {jwt.SigningMethodES256, ecKey}, auth.EdDSA: {jwt.SigningMethodEdDSA, edKey},
	} {
		t.Run(algorithm, func(t *testing.T) {
			i := newIssuer(t)
			i.publish(
				jwk(t, "rsa", rsaKey.Public()), jwk(t, "ec", ecKey.Public(), "alg", auth.ES256, "use", "sig"), jwk(t, "ed", edKey.Public()),
				map[string]any{"kty": "oct", "kid": "oct", "k": base64.RawURLEncoding.EncodeToString([]byte(secret))},
				map[string]any{"kty": "new", "kid": "new"},
			)
			set, err := auth.NewJWKS(i.url, algorithm, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if err := set.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			v := auth.NewVerifier(set, auth.Rules{})
			kid := map[string]string{auth.RS256: "rsa", auth.ES256: "ec", auth.EdDSA: "ed"}[algorithm]
			verify(t, v, sign(t, c.method, c.key, claims(), map[string]any{"kid": kid}))
			verify(t, v, sign(t, c.method, c.key, claims()))
			equal(t, "reads", i.asked(), 1)
			for name, text := range map[string]string{
				"Secret":    sign(t, jwt.SigningMethodHS256, []byte(secret), claims(), map[string]any{"kid": "oct"}),
				"NoKid":     sign(t, jwt.SigningMethodHS256, []byte(secret), claims()),
				"KidNumber": sign(t, c.method, c.key, claims(), map[string]any{"kid": 1}),
				"Other":     sign(t, c.method, c.key, claims(), map[string]any{"kid": "oct"}),
			} {
				_, err := v.Verify(t.Context(), text)
				refused(t, name, err, wire.CodeUnauthenticated)
			}
		})
	}
}

// TestJWKS_Rotation: a key that is not known has the set read, but not for each of a
// flood; keys that are gone count no more; an issuer that is away changes nothing.
func TestJWKS_Rotation(t *testing.T) {
	first, _, _ := keys(t)
	second, _, _ := keys(t)
	third, _, _ := keys(t)
	by := func(kid string, key *rsa.PrivateKey) string {
		return sign(t, jwt.SigningMethodRS256, key, claims(), map[string]any{"kid": kid})
	}
	i := newIssuer(t)
	i.publish(jwk(t, "1", first.Public()))
	set, err := auth.NewJWKS(i.url, auth.RS256, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := auth.NewVerifier(set, auth.Rules{})
	verify(t, v, by("1", first))
	i.publish(jwk(t, "1", first.Public()), jwk(t, "2", second.Public()))
	verify(t, v, by("2", second)) // read again, without being told to
	verify(t, v, by("1", first))
	equal(t, "reads", i.asked(), 2)
	for range 1000 {
		_, err := v.Verify(t.Context(), by("3", third))
		refused(t, "unknown key", err, wire.CodeUnauthenticated, "names a key")
	}
	if n := i.asked(); n > 4 {
		t.Errorf("a flood of unknown keys had the set read %d times", n)
	}

	i.publish(jwk(t, "2", second.Public()))
	if err := set.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(t.Context(), by("1", first))
	refused(t, "retired key", err, wire.CodeUnauthenticated)
	i.answers(http.StatusInternalServerError)
	if err := set.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "500") {
		t.Error(err)
	}
	verify(t, v, by("2", second))
	for says, body := range map[string]string{
		"want a JSON Web Key Set": "<html>", "none of its 0 keys": `{"keys":[]}`, "none of its 1 keys": `{"keys":[{"kty":"oct","k":"AAAA"}]}`,
		"too large": strings.Repeat(" ", 2<<20),
	} {
		i.answers(http.StatusOK)
		i.mu.Lock()
		i.body = body
		i.mu.Unlock()
		if err := set.Read(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	verify(t, v, by("2", second))
}

func TestNewJWKS_Refuses(t *testing.T) {
	for _, c := range [][2]string{
		{"http://issuer.example/keys", auth.RS256},
		{"issuer.example", auth.RS256},
		{"ftp://localhost/x", auth.RS256},
		{"", auth.RS256},
		{"https://issuer.example/keys", auth.HS256},
		{"https://issuer.example/keys", ""},
		{"https://issuer.example/keys", "none"},
	} {
		if _, err := auth.NewJWKS(c[0], c[1], slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%v was accepted", c)
		}
	}
}
