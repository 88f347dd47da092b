package faults_test

import (
	"testing"
	"time"
)

// The listener's session is terminated again and again while 500 notifications are
// committed a second.
func TestListener_Terminated(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		s.serve(s.db.url)
		s.follow(s.server.url)
		stop := s.db.load(8, 500)
		for range times(3, 25) {
			pass(500 * time.Millisecond)
			s.fault(s.terminateListener)
		}
		pass(time.Second)
		stop()
		s.finish()
	})
}

// A thousand notifications are committed while nobody listens.
func TestListener_Outage(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		p := newProxy(t, s.db.url)
		s.serve(p.url)
		s.follow(s.server.url)
		for range times(1, 5) {
			s.fault(func() { p.refuse(true) })
			s.db.commit(1000, 50)
			p.refuse(false)
			s.server.ready()
		}
		s.finish()
	})
}

// The server is killed under load and started again: in log, nothing is lost and no
// gap is told.
func TestServer_Killed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		s.serve(s.db.url)
		s.follow(s.server.url)
		stop := s.db.load(4, 200)
		for range times(2, 15) {
			pass(700 * time.Millisecond)
			s.fault(s.server.kill)
			s.server.start()
			s.server.ready()
		}
		stop()
		s.finish()
	})
}

// terminateListener ends the server process behind the listen connection.
func (s *scene) terminateListener() {
	s.t.Helper()
	eventually(s.t, "there is a listener to terminate", func() bool {
		return value[int](s.db, `SELECT count(pg_terminate_backend(pid))::int FROM pg_stat_activity
			WHERE application_name = 'attune listener' AND datname = current_database()`) > 0
	})
}
