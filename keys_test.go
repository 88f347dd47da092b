package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"attune/pg/pgtest"
)

// Tokens of an issuer whose public key is known, from a file or from where it publishes
// its keys; and no other tokens.
func TestServe_PublicKeys(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	file := filepath.Join(t.TempDir(), "issuer.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","use":"sig","kid":"a","x":%q,"y":%q}]}`,
			base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:]))
	}))
	t.Cleanup(issuer.Close)

	claims := func() jwt.MapClaims {
		return jwt.MapClaims{"sub": "7", "exp": time.Now().Add(time.Hour).Unix(), "iss": "https://issuer.example", "aud": "attune"}
	}
	sign := func(method jwt.SigningMethod, with any, c jwt.MapClaims) string {
		token := jwt.NewWithClaims(method, c)
		token.Header["kid"] = "a"
		signed, err := token.SignedString(with)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	elsewhere := claims()
	elsewhere["aud"] = "another"
	for name, env := range map[string][]string{
		"File": {"ATTUNE_JWT_PUBLIC_KEY_FILE=" + file},
		"JWKS": {"ATTUNE_JWKS_URL=" + issuer.URL, "ATTUNE_JWT_ALGORITHM=ES256"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveWithRunner(t, pgtest.Database(t), slices.Concat(env, []string{"ATTUNE_JWT_ISSUER=https://issuer.example", "ATTUNE_JWT_AUDIENCE=attune"})...)
			for what, c := range map[string]struct {
				token string
				code  int
			}{
				"good":          {sign(jwt.SigningMethodES256, key, claims()), 0},
				"another key":   {sign(jwt.SigningMethodES256, other, claims()), 4},
				"confusion":     {sign(jwt.SigningMethodHS256, text, claims()), 4},
				"none":          {sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims()), 4},
				"for elsewhere": {sign(jwt.SigningMethodES256, key, elsewhere), 4},
			} {
				code, stdout, stderr := run(t, []string{"ATTUNE_URL=" + s.url, "ATTUNE_TOKEN=" + c.token}, "execution", "list", "--json")
				if code != c.code {
					t.Errorf("%s: exit code %d, want %d: %s%s", what, code, c.code, stdout, stderr)
				}
			}
		})
	}
}
