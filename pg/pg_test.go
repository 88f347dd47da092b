package pg_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"attune/pg"
	"attune/pg/pgtest"
)

func TestConnect(t *testing.T) {
	t.Run("Works", func(t *testing.T) {
		pool := connect(t, pgtest.Database(t))
		var name, encoding string
		err := pool.QueryRow(t.Context(), "SELECT current_setting('application_name'), current_setting('client_encoding')").Scan(&name, &encoding)
		if err != nil || name != "attune" || encoding != "UTF8" {
			t.Errorf("application_name %q, client_encoding %q, error %v", name, encoding, err)
		}
	})

	t.Run("URLCountsMore", func(t *testing.T) {
		pool := connect(t, pgtest.Database(t)+"&application_name=mine&default_query_exec_mode=describe_exec", pg.ThroughPooler())
		cfg := pool.Config().ConnConfig
		if cfg.RuntimeParams["application_name"] != "mine" || cfg.DefaultQueryExecMode != pgx.QueryExecModeDescribeExec {
			t.Errorf("application_name %q, mode %s", cfg.RuntimeParams["application_name"], cfg.DefaultQueryExecMode)
		}
	})

	t.Run("ThroughPooler", func(t *testing.T) {
		pool := connect(t, pgtest.Database(t), pg.ThroughPooler())
		var prepared int
		for range 3 {
			if err := pool.QueryRow(t.Context(), "SELECT count(*) + $1 FROM pg_prepared_statements", 0).Scan(&prepared); err != nil {
				t.Fatal(err)
			}
		}
		if prepared != 0 {
			t.Errorf("%d prepared statements", prepared)
		}
	})
}

// secret is the password in every URL that must fail.
const secret = "s3cr3t%2Fp%40ss"

// unreachable are URLs and what the error about each must say. base is the URL of a
// database that is there.
func unreachable(t *testing.T, base string) map[string]struct {
	url  string
	want []string
} {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(u *url.URL)) string {
		changed := *u
		change(&changed)
		return changed.String()
	}
	var lc net.ListenConfig
	free, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(nobody)
	at := fmt.Sprintf("PostgreSQL at host 127.0.0.1 port %s, database %q, user %q", u.Port(), strings.TrimPrefix(u.Path, "/"), u.User.Username())
	return map[string]struct {
		url  string
		want []string
	}{
		"NobodyThere": {
			url:  "postgres://someone:" + secret + "@" + nobody + "/orders",
			want: []string{"PostgreSQL at host 127.0.0.1 port " + port + `, database "orders", user "someone"`, "connection refused", "check that the server runs"},
		},
		"SeveralHosts": {
			url:  "postgres://someone:" + secret + "@" + nobody + ",[::1]:" + port + "/orders?sslmode=prefer",
			want: []string{"host 127.0.0.1 port " + port + ", host ::1 port " + port, "check that the server runs"},
		},
		"NoSuchHost": {
			url:  "postgres://someone:" + secret + "@no-such-host.invalid/orders",
			want: []string{"host no-such-host.invalid port 5432", "check the host in the connection URL"},
		},
		"WrongPassword": {
			url:  with(func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), "s3cr3t/p@ss") }),
			want: []string{at, "28P01", "check user and password in the connection URL"},
		},
		"NoSuchUser": {
			url:  with(func(u *url.URL) { u.User = url.UserPassword("stranger", "s3cr3t/p@ss") }),
			want: []string{`user "stranger"`, "check user and password in the connection URL"},
		},
		"NoSuchDatabase": {
			url:  with(func(u *url.URL) { u.Path = "/nowhere" }),
			want: []string{`database "nowhere"`, "3D000", "create the database"},
		},
		"NoURL": {
			url:  "postgres://someone:s3cr3t/p@ss@localhost:5432/orders",
			want: []string{"parse the connection URL", "percent-encoded"},
		},
		"BadPort": {
			url:  "postgres://someone:" + secret + "@localhost:s3cr3t/orders",
			want: []string{"parse the connection URL", "want postgres://user:password@host:port/database"},
		},
		"BadKey": {
			url:  "host=localhost password=s3cr3t port='s3cr3t",
			want: []string{"parse the connection URL"},
		},
		"NoSuchFile": {
			url:  "postgres://someone:" + secret + "@localhost/orders?sslmode=verify-full&sslrootcert=/no/such/file",
			want: []string{"parse the connection URL", "/no/such/file"},
		},
	}
}

func TestConnect_Refused(t *testing.T) {
	base := pgtest.Database(t)
	for name, test := range unreachable(t, base) {
		t.Run(name, func(t *testing.T) {
			_, err := pg.Connect(t.Context(), test.url)
			checkRefusal(t, err, test.want, base)
		})
	}
	t.Run("Silent", func(t *testing.T) {
		p := pgtest.NewProxy(t, base)
		p.HalfOpen(false)
		_, err := pg.Connect(t.Context(), p.URL+"&connect_timeout=1")
		checkRefusal(t, err, []string{"nothing answered in time", "firewalls"}, base)
	})
}

func TestListener_Run_Refused(t *testing.T) {
	base := pgtest.Database(t)
	pool := connect(t, base)
	for name, test := range unreachable(t, base) {
		t.Run(name, func(t *testing.T) {
			err := pg.NewListener(pg.ListenerConfig{URL: test.url, Pool: pool}, newRecorder()).Run(t.Context())
			checkRefusal(t, err, test.want, base)
		})
	}
	t.Run("Channel", func(t *testing.T) {
		err := pg.NewListener(pg.ListenerConfig{URL: base, Pool: pool, Channels: []string{"fine", ""}}, newRecorder()).Run(t.Context())
		checkRefusal(t, err, []string{`channel ""`, "1 to 63 bytes"}, base)
	})
	t.Run("CanaryInterval", func(t *testing.T) {
		err := pg.NewListener(pg.ListenerConfig{URL: base, Pool: pool, CanaryInterval: -time.Second}, newRecorder()).Run(t.Context())
		checkRefusal(t, err, []string{"canary interval -1s", "positive"}, base)
	})
	t.Run("CanaryCannotBeSent", func(t *testing.T) {
		p := pgtest.NewProxy(t, base)
		pool := connect(t, p.URL)
		p.Refuse(true)
		err := pg.NewListener(pg.ListenerConfig{URL: base, Pool: pool, CanaryInterval: interval}, newRecorder()).Run(t.Context())
		checkRefusal(t, err, []string{"send a canary to PostgreSQL at host 127.0.0.1", "check that the server runs"}, base)
	})
}

// A standby answers queries, but LISTEN does not work there.
func TestStandby(t *testing.T) {
	standby := pgtest.Standby(t)
	want := []string{"the server is a standby", "need the primary", `user "attune"`}
	_, err := pg.Connect(t.Context(), standby)
	checkRefusal(t, err, want, standby)
	base := pgtest.Database(t)
	err = pg.NewListener(pg.ListenerConfig{URL: standby, Pool: connect(t, base)}, newRecorder()).Run(t.Context())
	checkRefusal(t, err, want, standby)
}

// checkRefusal checks that err says what is wanted on one line, and neither it nor what it wraps
// has a password in it: the secret, or that of a URL that works.
func checkRefusal(t *testing.T, err error, want []string, working string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	t.Log(err)
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q, want %q in it", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q has several lines", err)
	}
	u, parseErr := url.Parse(working)
	if parseErr != nil {
		t.Fatal(parseErr)
	}
	password, _ := u.User.Password()
	for e := range wrapped(err) {
		for _, text := range []string{e.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e)} {
			if strings.Contains(text, "s3cr3t") || strings.Contains(text, password) {
				t.Errorf("a password is in %T: %s", e, text)
			}
		}
	}
}

// wrapped yields err and all that it wraps.
func wrapped(err error) func(yield func(error) bool) {
	return func(yield func(error) bool) {
		todo := []error{err}
		for len(todo) > 0 {
			e := todo[0]
			todo = todo[1:]
			if e == nil {
				continue
			}
			if !yield(e) {
				return
			}
			if joined, ok := e.(interface{ Unwrap() []error }); ok {
				todo = append(todo, joined.Unwrap()...)
			} else {
				todo = append(todo, errors.Unwrap(e))
			}
		}
	}
}
