package faults_test

import (
	"syscall"
	"testing"
	"time"
)

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

// The server is stopped for longer than it takes to be found deaf, and goes on.
func TestServer_Stopped(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		s.serve(s.db.url)
		s.follow(s.server.url)
		stop := s.db.load(4, 200)
		for i := range times(2, 10) {
			pass(300 * time.Millisecond)
			s.fault(func() { s.server.signal(syscall.SIGSTOP) })
			pass(time.Duration(times(500, 1500)*(1+i%2)) * time.Millisecond)
			s.server.signal(syscall.SIGCONT)
			s.server.ready()
		}
		stop()
		s.finish()
	})
}

// Two instances serve one database. One is killed, its clients go to the other with
// their cursors, and come back when that is killed.
func TestServer_Two(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, source string) {
		t.Helper()
		s := newScene(t, source)
		s.serve(s.db.url)
		one := s.server
		stopFirst := s.sampled
		s.serve(s.db.url)
		two := s.server
		stopSecond := s.sampled
		s.sampled = nil
		all := clientsOf(t, one.url)
		for _, c := range all {
			c.urls = append(c.urls, two.url)
		}
		s.add(all[:len(all)-1]...) // the product's own client knows one address
		s.subscribed()
		stop := s.db.load(4, 200)
		for i := range times(2, 12) {
			pass(700 * time.Millisecond)
			dying := []*server{one, two}[i%2]
			s.fault(dying.kill)
			pass(300 * time.Millisecond)
			dying.start()
			dying.ready()
		}
		stop()
		one.ready()
		two.ready()
		s.samples = append(stopFirst(), stopSecond()...)
		s.finish()
	})
}
