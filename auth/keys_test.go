package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"attune/auth"
)

func TestPublicKeys(t *testing.T) {
	rsaKey, ecKey, edKey := keys(t)
	for algorithm, c := range map[string]struct {
		key    crypto.Signer
		method jwt.SigningMethod
	}{
		auth.RS256: {rsaKey, jwt.SigningMethodRS256}, auth.ES256: {ecKey, jwt.SigningMethodES256}, auth.EdDSA: {edKey, jwt.SigningMethodEdDSA},
	} {
		text := publicPEM(t, c.key.Public())
		k, err := auth.PublicKeys(text, "")
		if err != nil {
			t.Fatal(err)
		}
		if k.Algorithm() != algorithm {
			t.Errorf("algorithm %s, want %s", k.Algorithm(), algorithm)
		}
		verify(t, auth.NewVerifier(k, auth.Rules{}), sign(t, c.method, c.key, claims()))
		if _, err := auth.PublicKeys(text, auth.HS256); err == nil {
			t.Errorf("%s: accepted for HS256", algorithm)
		}
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, _ := x509.MarshalPKCS8PrivateKey(edKey)
	good := publicPEM(t, edKey.Public())
	for says, text := range map[string][]byte{
		"1024 bits": publicPEM(t, small.Public()), "P-384": publicPEM(t, p384.Public()), "want a PEM block": []byte("ssh-rsa AAAA"),
		"private key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), "one PEM block": append(good, good...),
		"parse": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}}),
	} {
		if _, err := auth.PublicKeys(text, ""); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}

func keys(t *testing.T) (*rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey) {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return rsaKey, ecKey, edKey
}

func publicPEM(t *testing.T, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestCheckSecret(t *testing.T) {
	for _, good := range []string{secret, "6f1c2a9be04d73586f1c2a9be04d7358a1b2c3d4e5f60718", "correct horse battery staple, and more"} {
		if err := auth.CheckSecret(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for weak, says := range map[string]string{
		"":                              "0 bytes",
		secret[:31]:                     "31 bytes",
		strings.Repeat("a", 64):         "1 different",
		strings.Repeat("ab12", 16):      "4 different",
		strings.Repeat("abcdefgh", 8):   "repeats",
		strings.Repeat("geheimnis!", 5): "repeats",
		"insecure_default_secret_change_in_production": "defaults",
		"docker-dev-secret-change-in-production":       "defaults",
		"MyPassword-and-something-more-to-be-long":     "password",
	} {
		err := auth.CheckSecret(weak)
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "openssl rand") {
			t.Errorf("%q: %v, want %q", weak, err, says)
		}
	}
}

func TestMint(t *testing.T) {
	v := verifier(t, auth.Rules{Issuer: "me", Audience: "you"})
	text, err := auth.Mint(secret, auth.Minting{User: 7, Admin: true, Filters: []string{"entity:orders:*"}, Life: time.Minute, Issuer: "me", Audience: "you"})
	if err != nil {
		t.Fatal(err)
	}
	id := verify(t, v, text)
	if id.User != 7 || id.Role != auth.RoleAdmin || !id.Restricted || len(id.Only) != 1 || id.Only[0].String() != "entity:orders:*" || id.TokenID == "" {
		t.Errorf("%+v", id)
	}
	text, err = auth.Mint(secret, auth.Minting{User: 8, Execution: new(int64(51)), Life: time.Minute, Issuer: "me", Audience: "you"})
	if err != nil {
		t.Fatal(err)
	}
	if id := verify(t, v, text); id.Role != auth.RoleExecution || id.Execution != 51 || id.Restricted {
		t.Errorf("%+v", id)
	}
	if _, err := auth.Mint("short", auth.Minting{}); err == nil {
		t.Error("a weak secret was used")
	}
	if _, err := auth.Mint(secret, auth.Minting{Filters: []string{"nothing"}}); err == nil {
		t.Error("a bad filter was accepted")
	}
}
