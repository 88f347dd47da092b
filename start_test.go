package main_test

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"attune/pg/pgtest"
)

// secret is in no output, whatever goes wrong.
const secret = "Pa55word-of-nobody"

// A start that cannot succeed says what to do about it.
func TestServe_CannotStart(t *testing.T) {
	t.Parallel()
	good, err := url.Parse(pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(u *url.URL)) string {
		u := *good
		change(&u)
		return u.String()
	}
	password, _ := good.User.Password()
	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inUse := dataDir(t)
	serve(t, "ATTUNE_DATA_DIR="+inUse)

	for name, tt := range map[string]struct {
		env  []string
		want []string
	}{
		"Unreachable": {
			[]string{"DATABASE_URL=postgres://attune:" + secret + "@127.0.0.1:1/attune"},
			[]string{"host 127.0.0.1 port 1", `database "attune"`, `user "attune"`, "check that the server runs"},
		},
		"UnknownHost": {
			[]string{"DATABASE_URL=postgres://attune:" + secret + "@no-such-host.invalid/attune"},
			[]string{"no-such-host.invalid", "check the host"},
		},
		"WrongPassword": {
			[]string{"DATABASE_URL=" + with(func(u *url.URL) { u.User = url.UserPassword("attune", secret) })},
			[]string{`user "attune"`, "check user and password"},
		},
		"NoDatabase": {
			[]string{"DATABASE_URL=" + with(func(u *url.URL) { u.Path = "/nowhere" })},
			[]string{`database "nowhere"`, "create the database"},
		},
		"NoURL": {
			[]string{"DATABASE_URL=postgres://attune:" + secret + "@db:54x2/attune"},
			[]string{"URL: want postgres://user:password@host:port/database"},
		},
		"ListenURLUnreachable": {
			[]string{"DATABASE_URL=" + good.String(), "ATTUNE_LISTEN_URL=postgres://attune:" + secret + "@127.0.0.1:1/attune"},
			[]string{"ATTUNE_LISTEN_URL: ", "host 127.0.0.1 port 1"},
		},
		"Standby": {
			[]string{"DATABASE_URL=" + pgtest.Standby(t)},
			[]string{"standby", "need the primary"},
		},
		"Pooler": {
			[]string{"DATABASE_URL=" + pgtest.PgBouncer(t, good.String()), "ATTUNE_CANARY_INTERVAL=500ms"},
			[]string{"transaction pooler such as PgBouncer", "ATTUNE_LISTEN_URL"},
		},
		"AddressTaken": {
			[]string{"DATABASE_URL=" + good.String(), "ATTUNE_LISTEN_ADDR=" + taken.Addr().String()},
			[]string{"ATTUNE_LISTEN_ADDR", taken.Addr().String(), "address already in use"},
		},
		"ForeignDataDir": {
			[]string{"ATTUNE_DATA_DIR=" + foreign},
			[]string{foreign, "was not made by attune", "choose an empty one"},
		},
		"DataDirInUse": {
			[]string{"ATTUNE_DATA_DIR=" + inUse},
			[]string{"another attune is running", inUse},
		},
		"Configuration": {
			[]string{"DATABASE_URL=" + good.String(), "ATTUNE_LISTEN_ADDR=8081", "ATTUNE_DRAIN=soon", "ATTUNE_LOG_LEVEL=loud", "ATTUNE_QUEUE_SIZE=0", "ATTUNE_LOG_FORMAT=xml"},
			[]string{"ATTUNE_LISTEN_ADDR: ", "want host:port", "ATTUNE_DRAIN: ", "want a duration such as 5s", "ATTUNE_LOG_LEVEL: ", "want debug, info, warn or error", "ATTUNE_QUEUE_SIZE: ", "want 1 to 1000000", "ATTUNE_LOG_FORMAT: ", "want text or json"},
		},
		"OpenToAll": {
			[]string{"DATABASE_URL=" + good.String(), "ATTUNE_LISTEN_ADDR=0.0.0.0:0"},
			[]string{"ATTUNE_LISTEN_ADDR: ", "authentication is off", "ATTUNE_JWT_SECRET", "ATTUNE_INSECURE=true"},
		},
		"WeakSecret": {
			[]string{"DATABASE_URL=" + good.String(), "ATTUNE_JWT_SECRET=secret"},
			[]string{"ATTUNE_JWT_SECRET: ", "has 6 bytes, want 32 or more", "openssl rand"},
		},
		"DefaultSecret": {
			[]string{"DATABASE_URL=" + good.String(), "ATTUNE_JWT_SECRET=insecure_default_secret_change_in_production"},
			[]string{"ATTUNE_JWT_SECRET: ", "as defaults do that everybody can read"},
		},
		"TwoKeys": {
			[]string{"DATABASE_URL=" + good.String(), "ATTUNE_JWT_SECRET=" + jwtSecret, "ATTUNE_JWKS_URL=https://issuer.example/keys"},
			[]string{"ATTUNE_JWT_SECRET: ", "set one of", "ATTUNE_JWT_ALGORITHM: want the one that the issuer signs with"},
		},
		"OtherAlgorithm": {
			[]string{"DATABASE_URL=" + good.String(), "ATTUNE_JWT_SECRET=" + jwtSecret, "ATTUNE_JWT_ALGORITHM=none", "ATTUNE_JWT_LEEWAY=1h"},
			[]string{`ATTUNE_JWT_ALGORITHM: "none": want one of [HS256 RS256 ES256 EdDSA]`, "ATTUNE_JWT_LEEWAY: 1h0m0s: want 0s to 5m"},
		},
		"NoKeyFile": {
			[]string{"DATABASE_URL=" + good.String(), "ATTUNE_JWT_PUBLIC_KEY_FILE=/nowhere/key.pem"},
			[]string{"ATTUNE_JWT_PUBLIC_KEY_FILE: ", "/nowhere/key.pem"},
		},
		"KeysOverHTTP": {
			[]string{"DATABASE_URL=" + good.String(), "ATTUNE_JWKS_URL=http://issuer.example/keys", "ATTUNE_JWT_ALGORITHM=RS256"},
			[]string{"ATTUNE_JWKS_URL: ", "want an https URL"},
		},
		"NoCertificate": {
			[]string{"DATABASE_URL=" + good.String(), "ATTUNE_TLS_CERT_FILE=/nowhere/cert.pem", "ATTUNE_TLS_KEY_FILE=/nowhere/key.pem"},
			[]string{"ATTUNE_TLS_CERT_FILE: ", "/nowhere/cert.pem"},
		},
		"KeysAway": {
			[]string{"DATABASE_URL=" + good.String(), "ATTUNE_JWKS_URL=http://127.0.0.1:1/keys", "ATTUNE_JWT_ALGORITHM=RS256"},
			[]string{"ATTUNE_JWKS_URL: ", "http://127.0.0.1:1/keys", "connection refused"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := run(t, append([]string{"ATTUNE_LISTEN_ADDR=127.0.0.1:0"}, tt.env...), "serve")
			if code == 0 || stdout != "" {
				t.Errorf("exit code %d, stdout %q", code, stdout)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr does not say %q", want)
				}
			}
			if strings.Contains(stderr, secret) || strings.Contains(stderr, password) {
				t.Error("stderr has the password")
			}
			_, last, _ := strings.Cut(stderr, "Error: ")
			t.Logf("exit code %d: %s", code, last)
		})
	}
}

// Behind a pooler it works with a direct connection for LISTEN.
func TestServe_ListenURL(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	db := pgtest.Connect(t, direct)
	execSQL(t, db, platform)
	s := serve(t, "DATABASE_URL="+pgtest.PgBouncer(t, direct), "ATTUNE_LISTEN_URL="+direct)
	waiter := s.start(t, "execution", "wait", "1")
	waiter.says(waiter.stderr, "subscribed to")
	execSQL(t, db, `UPDATE attune.execution SET status = 'failed'`)
	if code := waiter.wait(); code != 5 {
		t.Errorf("exit code %d, want 5", code)
	}
}

// The runner needs sessions of its own, and has them beside the pooler.
func TestServe_ListenURL_Runner(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	s := serveWithRunner(t, pgtest.PgBouncer(t, direct), "ATTUNE_LISTEN_URL="+direct)
	code, stdout, stderr := s.attune(t, "action", "execute", "core.echo", "--param", "message=Hello!", "--wait")
	if code != 0 || stdout != "{\"message\":\"Hello!\"}\n" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}
