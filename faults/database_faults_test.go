package faults_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"attune/pg/local"
	"attune/pg/pgtest"
)

// The listener's session is terminated again and again while more than 500 notifications
// are committed a second, if the machine is fast enough.
func TestListener_Terminated(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		s.serve(s.db.url)
		s.follow(s.server.url)
		began := time.Now()
		stop := s.db.load(8, 500)
		stopBursts := s.db.bursts(30, 50*time.Millisecond)
		for range times(3, 25) {
			pass(500 * time.Millisecond)
			s.fault(s.terminateListener)
		}
		pass(time.Second)
		stop()
		stopBursts()
		took := time.Since(began)
		committed, _ := s.db.commits()
		s.note = fmt.Sprintf("%.0f notifications committed a second", float64(len(committed))/took.Seconds())
		s.finish()
	})
}

// Notifications come fast enough for the log to be read instead of announced, and slow
// down again; in the midst of that, the listener's session is terminated.
func TestListener_Rushed(t *testing.T) {
	t.Parallel()
	s := newScene(t, "log")
	s.serve(s.db.url)
	s.follow(s.server.url)
	stop := s.db.load(8, 200)
	polling := func() bool {
		now, err := s.server.stats()
		return err == nil && now.Source.Log.Polling
	}
	for range times(3, 25) {
		eventually(t, "the log is read on an interval", func() bool {
			s.db.bulk(200, 50)
			return polling()
		})
		s.fault(s.terminateListener)
		s.server.ready()
		eventually(t, "it is announced again", func() bool { return !polling() })
	}
	stop()
	s.finish()
}

// A thousand notifications are committed while the database is out of reach.
func TestListener_Outage(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		p := pgtest.NewProxy(t, s.db.url)
		s.serve(p.URL)
		s.follow(s.server.url)
		for range times(1, 5) {
			s.fault(func() { p.Refuse(true) })
			s.db.commit(1000, 50)
			p.Refuse(false)
			s.server.ready()
		}
		s.finish()
	})
}

// The listen connection stays open and brings nothing, with and without the database
// being out of reach for new connections.
func TestListener_HalfOpen(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		p := pgtest.NewProxy(t, s.db.url)
		s.serve(s.db.url, "ATTUNE_LISTEN_URL="+p.URL)
		s.follow(s.server.url)
		stop := s.db.load(4, 100)
		for i := range times(2, 12) {
			pass(300 * time.Millisecond)
			s.fault(func() { p.HalfOpen(i%2 == 0) })
			s.notLive()
			p.HalfOpen(true)
			p.Cut()
			s.server.ready()
		}
		stop()
		s.finish()
	})
}

// Somebody says UNLISTEN * on the listener's session, which looks as healthy as ever.
func TestListener_Unlisten(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		p := pgtest.NewProxy(t, s.db.url)
		s.serve(s.db.url, "ATTUNE_LISTEN_URL="+p.URL)
		s.follow(s.server.url)
		stop := s.db.load(4, 100)
		for range times(2, 12) {
			pass(300 * time.Millisecond)
			s.fault(func() { p.Inject("UNLISTEN *") })
			s.notLive()
			s.server.ready()
		}
		stop()
		s.finish()
	})
}

// The network between server and database does everything that networks do.
func TestDatabaseNetwork(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		n := newNetwork(t, hostOf(t, s.db.url))
		s.serve(at(t, s.db.url, n.addr))
		s.follow(s.server.url)
		stop := s.db.load(4, 100)
		for range times(1, 6) {
			for _, x := range toxics() {
				s.fault(func() { n.add(x) })
				pass(time.Duration(times(400, 2000)) * time.Millisecond)
				n.heal()
				s.server.ready()
			}
		}
		stop()
		s.finish()
	})
}

// PostgreSQL is stopped, or killed so that it must recover, and started again.
func TestPostgreSQL_Restarted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		postgres, cfg := pgtest.Server(t)
		s := sceneOn(t, source, postgres.URL())
		s.serve(s.db.url)
		s.follow(s.server.url)
		stop := s.db.load(4, 200)
		rng := rand.New(rand.NewPCG(*seed, 1))
		for i := range times(2, 10) {
			pass(time.Duration(300+rng.IntN(500)) * time.Millisecond)
			s.fault(func() {
				if i%2 == 0 {
					killPostmaster(t, cfg)
					<-postgres.Exited()
				}
				_ = postgres.Stop(t.Context()) // what was killed is reported as such
			})
			postgres = startAgain(t, cfg)
			s.server.ready()
		}
		stop()
		s.finish()
	})
}

// startAgain starts a server on data that is there, on the same address.
func startAgain(t *testing.T, cfg local.Config) *local.Server {
	t.Helper()
	s, err := local.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(t.Context()) })
	return s
}

// killPostmaster kills the process that all others of a server hang on.
func killPostmaster(t *testing.T, cfg local.Config) {
	t.Helper()
	lock, err := os.ReadFile(filepath.Join(cfg.DataDir, "pgdata", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(lock), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// terminateListener ends the server process behind the listen connection.
func (s *scene) terminateListener() {
	s.t.Helper()
	eventually(s.t, "there is a listener to terminate", func() bool {
		return value[int](s.db, `SELECT count(pg_terminate_backend(pid))::int FROM pg_stat_activity
			WHERE application_name = 'attune listener' AND datname = current_database()`) > 0
	})
}

// notLive waits until the server has found that notifications do not arrive.
func (s *scene) notLive() {
	s.t.Helper()
	before, err := s.server.stats()
	if err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, "the server finds that it is deaf", func() bool {
		now, err := s.server.stats()
		return err == nil && (!now.Source.Live || now.Source.Reconnects > before.Source.Reconnects)
	})
}
