package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"attune/auth"
	"attune/wire"
)

func TestVerifier_Verify(t *testing.T) {
	v := verifier(t, auth.Rules{Leeway: auth.DefaultLeeway})
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	base := func(change func(*auth.Identity)) *auth.Identity {
		id := &auth.Identity{User: 7, Role: auth.RoleUser, Expires: expires, Ends: expires.Add(auth.DefaultLeeway)}
		change(id)
		return id
	}
	for name, c := range map[string]struct {
		claims map[string]any
		want   *auth.Identity
	}{
		"Plain":    {nil, base(func(*auth.Identity) {})},
		"Access":   {map[string]any{"token_type": "access", "login": "a", "scope": nil}, base(func(*auth.Identity) {})},
		"Negative": {map[string]any{"sub": "-9223372036854775808"}, base(func(id *auth.Identity) { id.User = -1 << 63 })},
		"Admin":    {map[string]any{"roles": []string{"x", "admin"}, "jti": "abc"}, base(func(id *auth.Identity) { id.Role, id.TokenID = auth.RoleAdmin, "abc" })},
		"NoAdmin":  {map[string]any{"roles": []string{"Admin", "admin ", "administrator"}, "Roles": []string{"admin"}}, base(func(*auth.Identity) {})},
		"Execution": {
			map[string]any{"token_type": "execution", "roles": []string{"admin"}, "metadata": map[string]any{"execution_id": 123, "action_ref": "x"}},
			base(func(id *auth.Identity) { id.Role, id.Execution = auth.RoleExecution, 123 }),
		},
		"NoFilters": {map[string]any{"attune_filters": []string{}}, base(func(id *auth.Identity) { id.Restricted = true })},
		// In the leeway: nearly over, and not quite begun.
		"Leeway": {map[string]any{"nbf": time.Now().Add(3 * time.Second).Unix()}, base(func(*auth.Identity) {})},
	} {
		t.Run(name, func(t *testing.T) {
			got := verify(t, v, token(t, map[string]any{"exp": expires.Unix(), "iat": nil}, c.claims))
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestVerifier_Verify_Refused(t *testing.T) {
	v := verifier(t, auth.Rules{Issuer: "https://issuer", Audience: "attune", Leeway: auth.DefaultLeeway})
	good := map[string]any{"iss": "https://issuer", "aud": []string{"other", "attune"}}
	verify(t, v, token(t, good))
	now := time.Now()
	for name, c := range map[string]struct {
		claims map[string]any
		says   string
	}{
		"Expired":         {map[string]any{"exp": now.Add(-10 * time.Second).Unix()}, "expired 1"},
		"NoExp":           {map[string]any{"exp": nil}, "exp is required"},
		"ExpText":         {map[string]any{"exp": "tomorrow"}, "no JWT"},
		"ExpHuge":         {map[string]any{"exp": 1e300}, ""},
		"ExpNegative":     {map[string]any{"exp": -1e300}, "expired"},
		"NotYet":          {map[string]any{"nbf": now.Add(time.Minute).Unix()}, "not valid yet"},
		"NoSub":           {map[string]any{"sub": nil}, "sub: want"},
		"SubNumber":       {map[string]any{"sub": 7}, "no JWT"},
		"SubZeros":        {map[string]any{"sub": "007"}, "sub: want"},
		"SubPlus":         {map[string]any{"sub": "+7"}, "sub: want"},
		"SubSpace":        {map[string]any{"sub": " 7"}, "sub: want"},
		"SubDigits":       {map[string]any{"sub": "٧"}, "sub: want"},
		"SubBeyond":       {map[string]any{"sub": "9223372036854775808"}, "sub: want"},
		"SubCase":         {map[string]any{"sub": nil, "Sub": "7", "SUB": "7"}, "sub: want"},
		"Refresh":         {map[string]any{"token_type": "refresh"}, `"refresh": want access or execution`},
		"Worker":          {map[string]any{"token_type": "worker"}, `"worker": want access or execution`},
		"Sensor":          {map[string]any{"token_type": "sensor"}, `"sensor": want access or execution`},
		"TypeCase":        {map[string]any{"token_type": "Access"}, "want access or execution"},
		"TypeNumber":      {map[string]any{"token_type": 1}, "no JWT"},
		"NoExecution":     {map[string]any{"token_type": "execution"}, "execution_id is missing"},
		"ExecutionText":   {map[string]any{"token_type": "execution", "metadata": map[string]any{"execution_id": "1"}}, "no JWT"},
		"ExecutionHalf":   {map[string]any{"token_type": "execution", "metadata": map[string]any{"execution_id": 1.5}}, "no JWT"},
		"RolesText":       {map[string]any{"roles": "admin"}, "no JWT"},
		"FiltersText":     {map[string]any{"attune_filters": "all"}, "no JWT"},
		"FiltersBad":      {map[string]any{"attune_filters": []string{"all", "entity:*"}}, "attune_filters: filter"},
		"FiltersMany":     {map[string]any{"attune_filters": strings.Split(strings.Repeat("all ", 101), " ")[:101]}, "at most 100"},
		"Issuer":          {map[string]any{"iss": "https://issuer/"}, `iss is not "https://issuer"`},
		"NoIssuer":        {map[string]any{"iss": nil}, "iss"},
		"Audience":        {map[string]any{"aud": "Attune"}, `aud does not name "attune"`},
		"NoAudience":      {map[string]any{"aud": nil}, "aud"},
		"FiltersNull":     {map[string]any{"attune_filters": json.RawMessage("null"), "sub": "x"}, "sub: want"},
		"NotAfterOneHour": {map[string]any{"exp": now.Add(-5 * time.Second).Unix()}, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := v.Verify(t.Context(), token(t, good, c.claims))
			if c.says == "" { // accepted or not, but not for longer than time goes
				return
			}
			refused(t, name, err, wire.CodeUnauthenticated, c.says)
			if id != nil && err == nil {
				t.Error(id)
			}
		})
	}
}

// TestVerifier_Verify_Forged: what looks like a token and was not made with the key.
func TestVerifier_Verify_Forged(t *testing.T) {
	rsaKey, ecKey, edKey := keys(t)
	public := publicPEM(t, rsaKey.Public())
	ours, err := auth.PublicKeys(public, auth.RS256)
	if err != nil {
		t.Fatal(err)
	}
	byRSA, bySecret := auth.NewVerifier(ours, auth.Rules{}), verifier(t, auth.Rules{})
	der, _ := x509.MarshalPKIXPublicKey(rsaKey.Public())
	good := token(t)
	head, body, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(body, ".")
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	verify(t, byRSA, sign(t, jwt.SigningMethodRS256, rsaKey, claims()))

	for name, c := range map[string]struct {
		v    *auth.Verifier
		text string
	}{
		"None":          {bySecret, sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims())},
		"NoneCase":      {bySecret, part(`{"alg":"nOnE","typ":"JWT"}`) + "." + body + "."},
		"NoAlg":         {bySecret, part(`{"typ":"JWT"}`) + "." + body + "." + signature},
		"AlgNumber":     {bySecret, part(`{"alg":1}`) + "." + body + "." + signature},
		"Unsigned":      {bySecret, head + "." + body + "."},
		"OtherSecret":   {bySecret, sign(t, jwt.SigningMethodHS256, []byte(secret+"x"), claims())},
		"HS384":         {bySecret, sign(t, jwt.SigningMethodHS384, []byte(secret), claims())},
		"HS512":         {bySecret, sign(t, jwt.SigningMethodHS512, []byte(secret), claims())},
		"OtherBody":     {bySecret, head + "." + part(`{"sub":"1","exp":9999999999,"roles":["admin"]}`) + "." + signature},
		"Padding":       {bySecret, good + "="},
		"LooseBits":     {bySecret, looseBits(good)},
		"FourParts":     {bySecret, good + ".x"},
		"Newline":       {bySecret, good + "\n"},
		"Critical":      {bySecret, sign(t, jwt.SigningMethodHS256, []byte(secret), claims(), map[string]any{"crit": []string{"exp"}})},
		"Empty":         {bySecret, ""},
		"Dots":          {bySecret, ".."},
		"Long":          {bySecret, good + strings.Repeat("A", 1<<20)},
		"Zeros":         {bySecret, strings.Repeat("\x00", 100)},
		"ConfusionPEM":  {byRSA, sign(t, jwt.SigningMethodHS256, public, claims())},
		"ConfusionDER":  {byRSA, sign(t, jwt.SigningMethodHS256, der, claims())},
		"PSS":           {byRSA, sign(t, jwt.SigningMethodPS256, rsaKey, claims())},
		"RS512":         {byRSA, sign(t, jwt.SigningMethodRS512, rsaKey, claims())},
		"OtherKind":     {byRSA, sign(t, jwt.SigningMethodES256, ecKey, claims())},
		"OtherKindEd":   {byRSA, sign(t, jwt.SigningMethodEdDSA, edKey, claims())},
		"KeyInHeader":   {bySecret, sign(t, jwt.SigningMethodHS256, []byte("mine"), claims(), map[string]any{"jwk": map[string]string{"kty": "oct", "k": part("mine")}})},
		"RSAWithSecret": {bySecret, sign(t, jwt.SigningMethodRS256, rsaKey, claims())},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.v.Verify(t.Context(), c.text)
			refused(t, name, err, wire.CodeUnauthenticated)
			if err != nil && len(c.text) > 20 && strings.Contains(err.Error(), c.text) {
				t.Error("the error tells the token")
			}
		})
	}
}

// looseBits changes the bits of the last character that no byte is made of.
func looseBits(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last^1])
}

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

func TestAuthority_Tickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := auth.NewAuthority(verifier(t, auth.Rules{}))
		id, err := a.Verify(t.Context(), token(t, map[string]any{"jti": "a", "exp": time.Now().Add(time.Minute).Unix()}))
		if err != nil {
			t.Fatal(err)
		}
		issue := func() string {
			text, expires, err := a.IssueTicket(id)
			if err != nil || !expires.Equal(time.Now().Add(auth.TicketLife)) {
				t.Fatal(expires, err)
			}
			return text
		}
		text := issue()
		for _, bad := range []string{"", text[1:], text + "A", strings.ToUpper(text), " " + text, strings.Repeat("A", len(text))} {
			if _, err := a.TakeTicket(bad); bad != text {
				refused(t, bad, err, wire.CodeUnauthenticated, "POST /tickets")
			}
		}
		if got, err := a.TakeTicket(text); err != nil || got != id {
			t.Errorf("%v, %v", got, err)
		}
		_, err = a.TakeTicket(text)
		refused(t, "used twice", err, wire.CodeUnauthenticated, "used")

		text = issue()
		time.Sleep(auth.TicketLife) //nolint:forbidigo // time is synctest's
		_, err = a.TakeTicket(text)
		refused(t, "too old", err, wire.CodeUnauthenticated, "30 s")

		for range 200 {
			issue()
		}
		_, _, err = a.IssueTicket(id)
		refused(t, "too many", err, wire.CodeOverCapacity)
		time.Sleep(29 * time.Second) //nolint:forbidigo // time is synctest's
		_, _, err = a.IssueTicket(id)
		refused(t, "too many still", err, wire.CodeOverCapacity)
		time.Sleep(time.Second) //nolint:forbidigo // time is synctest's
		text = issue()
		_, err = a.TakeTicket(text)
		refused(t, "of a token that expired", err, wire.CodeUnauthenticated, "expired")
	})
}

func TestAuthority_Revoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := auth.NewAuthority(verifier(t, auth.Rules{}))
		one, two, old := token(t, map[string]any{"jti": "one"}), token(t, map[string]any{"jti": "two"}), token(t, map[string]any{"iat": nil})
		other := token(t, map[string]any{"sub": "8"})
		watch := func(text string) chan error {
			id, err := a.Verify(t.Context(), text)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 2)
			g := a.NewGrant(id)
			g.Watch(func(err error) { ended <- err })
			t.Cleanup(g.Stop)
			return ended
		}
		ends := []chan error{watch(one), watch(two), watch(old), watch(other)}
		state := func(want ...error) {
			t.Helper()
			for i, ch := range ends {
				var got error
				select {
				case got = <-ch:
				default:
				}
				if !errors.Is(got, want[i]) {
					t.Errorf("stream %d: %v, want %v", i, got, want[i])
				}
			}
		}
		a.Revoke(auth.Revocation{TokenID: "one"})
		state(auth.ErrWithdrawn, nil, nil, nil)
		_, err := a.Verify(t.Context(), one)
		refused(t, "revoked", err, wire.CodeUnauthenticated, "revoked")
		a.Revoke(auth.Revocation{User: 7, At: time.Now()})
		_, err = a.Verify(t.Context(), two)
		refused(t, "user revoked", err, wire.CodeUnauthenticated, "revoked")
		_, err = a.Verify(t.Context(), old)
		refused(t, "user revoked, no iat", err, wire.CodeUnauthenticated, "revoked")
		watch(other)
		time.Sleep(time.Second) //nolint:forbidigo // time is synctest's
		watch(token(t))         // issued since
	})
}

func TestGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := auth.NewAuthority(verifier(t, auth.Rules{Leeway: 5 * time.Second}))
		id, err := a.Verify(t.Context(), token(t, map[string]any{"exp": time.Now().Add(time.Minute).Unix()}))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ended := make(chan error, 2)
		g := a.NewGrant(id)
		g.Watch(func(err error) { ended <- err })
		defer g.Stop()
		for _, bad := range []string{"x", token(t, map[string]any{"sub": "8"}), token(t, map[string]any{"token_type": "execution", "metadata": map[string]any{"execution_id": 1}})} {
			if _, err := g.Refresh(t.Context(), bad); err == nil {
				t.Error("refreshed with a token of somebody else")
			}
		}
		if _, err := g.Refresh(t.Context(), token(t, map[string]any{"exp": time.Now().Add(2 * time.Minute).Unix(), "roles": []string{"admin"}})); err != nil {
			t.Fatal(err)
		}
		if g.Identity().Role != auth.RoleAdmin {
			t.Error("the roles are the old token's")
		}
		if err := <-ended; !errors.Is(err, auth.ErrExpired) {
			t.Error(err)
		}
		if took := time.Since(began); took != 2*time.Minute+5*time.Second {
			t.Errorf("ended after %s", took)
		}
		// With authentication off nothing ends, and nothing is to refresh.
		off := (*auth.Authority)(nil).NewGrant(auth.Anyone())
		off.Watch(nil)
		off.Stop()
		_, err = off.Refresh(t.Context(), "x")
		refused(t, "off", err, wire.CodeForbidden, "off")
	})
}

func TestParseRevocation(t *testing.T) {
	now := time.Now()
	for text, want := range map[string]auth.Revocation{
		`{"revoke":{"jti":"abc"}}`:       {TokenID: "abc", At: now},
		` {"revoke": {"user": -7 }}`:     {User: -7, At: now},
		`{"revoke":{"user":"7"}}`:        {},
		`{"revoke":{"user":7.0}}`:        {},
		`{"revoke":{"jti":""}}`:          {},
		`{"revoke":{"jti":7}}`:           {},
		`{"revoke":{}}`:                  {},
		`{"revoke":{"user":7,"jti":""}}`: {},
		`{"revoke":null}`:                {},
		`{"user":7}`:                     {},
		`[]`:                             {},
		``:                               {},
	} {
		got, err := auth.ParseRevocation(text, now)
		if (err != nil) != (want == auth.Revocation{}) || got != want && err == nil {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}
