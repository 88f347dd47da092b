package main_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"attune/http/selfsigned"
	"attune/pg/pgtest"
)

// jwtSecret signs the tokens of these tests.
const jwtSecret = "nZ7wq2LrV0xT5bKcE9sYhG3uJdM8aPf1"

// mint makes a token with the command for that.
func mint(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := run(t, []string{"ATTUNE_JWT_SECRET=" + jwtSecret}, append([]string{"token", "mint"}, args...)...)
	if code != 0 || strings.Count(stdout, ".") != 2 || stderr != "" {
		t.Fatalf("token mint %v: exit code %d, %q, %q", args, code, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

// Every instance on a database refuses within a second what is revoked, and one that
// starts later too, where there is a place to write it down.
func TestToken_Revoke(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"listen", "log"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			database := []string{"DATABASE_URL=" + pgtest.Database(t), "ATTUNE_CANARY_INTERVAL=1s"}
			if source == "log" {
				if code, _, stderr := run(t, database, "db", "install"); code != 0 {
					t.Fatal(stderr)
				}
			}
			env := append(slices.Clone(database), "ATTUNE_JWT_SECRET="+jwtSecret)
			servers := []*server{serve(t, env...), serve(t, env...)}
			seven, eight := mint(t, "--user", "7"), mint(t, "--user", "8")
			follow := func(s *server, token string) *process {
				p := start(t, []string{"ATTUNE_URL=" + s.url, "ATTUNE_TOKEN=" + token}, "events", "--sse")
				p.says(p.stderr, "connected to")
				return p
			}
			followers := []*process{follow(servers[0], seven), follow(servers[1], seven)}
			kept := follow(servers[1], eight)

			code, stdout, stderr := run(t, database, "token", "revoke", "--user", "7")
			if code != 0 || !strings.Contains(stdout, "user 7") || strings.Contains(stdout, "attune db install") == (source == "log") {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
			began := time.Now()
			for _, p := range followers {
				p.says(p.stderr, "access_withdrawn")
			}
			took := time.Since(began)
			t.Logf("withdrawn %s after the command", took)
			if took > time.Second {
				t.Errorf("withdrawn %s after the command, want within a second", took)
			}
			for _, p := range followers {
				if code := p.wait(); code != 4 { // it comes back, and is refused
					t.Errorf("exit code %d, want 4", code)
				}
			}
			for _, s := range servers {
				if code, _, stderr := run(t, []string{"ATTUNE_URL=" + s.url, "ATTUNE_TOKEN=" + seven}, "events"); code != 4 || !strings.Contains(stderr, "revoked") {
					t.Errorf("exit code %d: %s", code, stderr)
				}
				if strings.Contains(s.stderr.String(), seven) || strings.Contains(s.stderr.String(), jwtSecret) {
					t.Error("the log has the token or the secret")
				}
			}
			if !kept.running() {
				t.Error("another user's stream has ended")
			}
			later := serve(t, env...)
			p := start(t, []string{"ATTUNE_URL=" + later.url, "ATTUNE_TOKEN=" + seven}, "events")
			if source == "listen" {
				p.says(p.stderr, "connected to")
			} else if code := p.wait(); code != 4 {
				t.Errorf("a server that started later: exit code %d, want 4", code)
			}
		})
	}
}

// With authentication on the command line waits as ever, and says when it may not.
func TestToken_Wait(t *testing.T) {
	t.Parallel()
	s := serveWithRunner(t, pgtest.Database(t), "ATTUNE_JWT_SECRET="+jwtSecret, "ATTUNE_LISTEN_ADDR=127.0.0.1:0")
	as := func(token string) []string { return []string{"ATTUNE_URL=" + s.url, "ATTUNE_TOKEN=" + token} }
	seven := as(mint(t, "--user", "7"))
	code, stdout, stderr := run(t, seven, "action", "execute", "core.echo", "--param", "message=Hello!", "--wait")
	if code != 0 || strings.TrimSpace(stdout) != `{"message":"Hello!"}` || !strings.Contains(stderr, "status=completed") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	for name, c := range map[string]struct{ env, args []string }{
		"Nobody":       {as(""), []string{"execution", "wait", "1"}},
		"AnothersWait": {as(mint(t, "--user", "8")), []string{"execution", "wait", "1"}},
		"AnothersShow": {as(mint(t, "--user", "8")), []string{"execution", "show", "1"}},
		"Execution":    {as(mint(t, "--user", "7", "--execution", "1")), []string{"action", "execute", "core.noop"}},
		"Filter":       {as(mint(t, "--user", "7", "--filter", "entity_type:orders")), []string{"events"}},
		"User":         {seven, []string{"events", "--filter", "user:8"}},
	} {
		if code, _, stderr := run(t, c.env, c.args...); code != 4 {
			t.Errorf("%s: exit code %d, want 4: %s", name, code, stderr)
		}
	}
	if code, _, stderr := run(t, as(mint(t, "--user", "7", "--execution", "1")), "execution", "wait", "1"); code != 0 {
		t.Errorf("its own execution: exit code %d: %s", code, stderr)
	}
	if resp := s.do(t, http.MethodGet, "/stats", ""); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("/stats: %s", resp.Status)
	} else {
		resp.Body.Close()
	}
}

func TestToken_Mint_Refuses(t *testing.T) {
	t.Parallel()
	for says, c := range map[string]struct {
		secret string
		args   []string
	}{
		"openssl rand":          {"", []string{"--user", "7"}},
		"32 or more":            {"short", []string{"--user", "7"}},
		"repeats itself":        {strings.Repeat("abcdefgh", 8), []string{"--user", "7"}},
		`"user" not set`:        {jwtSecret, nil},
		"--life":                {jwtSecret, []string{"--user", "7", "--life", "9000h"}},
		`filter "entity:a:b:c"`: {jwtSecret, []string{"--user", "7", "--filter", "entity:a:b:c"}},
	} {
		code, stdout, stderr := run(t, []string{"ATTUNE_JWT_SECRET=" + c.secret}, append([]string{"token", "mint"}, c.args...)...)
		if code == 0 || stdout != "" || !strings.Contains(stderr, says) {
			t.Errorf("want %q: exit code %d, %q, %q", says, code, stdout, stderr)
		}
		if len(c.secret) > 8 && strings.Contains(stderr, c.secret) {
			t.Error("the secret is told")
		}
	}
}

// Beyond loopback with authentication and TLS: the command line goes through it like
// through anything else.
func TestServe_TLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile, err := selfsigned.Write(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, []string{
		"DATABASE_URL=" + pgtest.Database(t), "ATTUNE_RUNNER=true", "ATTUNE_LISTEN_ADDR=0.0.0.0:0", "ATTUNE_DRAIN=300ms",
		"ATTUNE_JWT_SECRET=" + jwtSecret, "ATTUNE_TLS_CERT_FILE=" + certFile, "ATTUNE_TLS_KEY_FILE=" + keyFile,
	}, "serve")
	s.says(s.stdout, "\n")
	says := strings.TrimSpace(s.stdout.String())
	if !strings.HasPrefix(says, "attune listens on https://") {
		t.Fatalf("it printed %q", says)
	}
	env := []string{"ATTUNE_URL=https://127.0.0.1" + says[strings.LastIndex(says, ":"):], "SSL_CERT_FILE=" + certFile, "ATTUNE_TOKEN=" + mint(t, "--user", "7")}
	if code, stdout, stderr := run(t, env, "action", "execute", "core.echo", "--param", "message=Hello!", "--wait"); code != 0 || !strings.Contains(stdout, "Hello!") || !strings.Contains(stderr, "wss://") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	p := start(t, env, "events", "--sse")
	p.says(p.stderr, "connected to https://")
}
