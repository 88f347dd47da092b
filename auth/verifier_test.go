package auth_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
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
