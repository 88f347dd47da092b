package faults_test

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"attune/pg/pgtest"
)

// episode is how long a server, its database and its clients live in a soak.
const episode = time.Minute

// All faults at random, one after the other, for as long as -soak says. Each episode
// is checked by itself.
func TestSoak(t *testing.T) {
	t.Parallel()
	last := time.Duration(times(4, 60)) * time.Second
	if *soak > 0 {
		last = *soak
	}
	end := time.Now().Add(last)
	for number := 0; number == 0 || time.Until(end) > episode/2; number++ {
		for _, source := range []string{sourceListen, sourceLog} {
			rng := rand.New(rand.NewPCG(*seed, uint64(number)<<1|uint64(len(source)&1)))
			t.Run(fmt.Sprintf("%s/%d", source, number), func(t *testing.T) {
				soakFor(t, source, min(episode, last)/2, rng)
			})
		}
	}
}

func soakFor(t *testing.T, source string, d time.Duration, rng *rand.Rand) {
	t.Helper()
	s := newScene(t, source)
	p := pgtest.NewProxy(t, s.db.url)
	database := newNetwork(t, hostOf(t, s.db.url))
	s.serve(at(t, s.db.url, database.addr), "ATTUNE_LISTEN_URL="+p.URL)
	n := newNetwork(t, s.server.addr)
	s.follow("http://" + n.addr)
	stop := s.db.load(4, 200)
	moment := func(most int) { pass(time.Duration(rng.IntN(most)) * time.Millisecond) }
	faults := []func(){
		s.terminateListener,
		func() { p.Refuse(true); moment(1500); p.Refuse(false) },
		func() { p.HalfOpen(false); moment(3000); p.HalfOpen(true); p.Cut() },
		func() { p.Inject("UNLISTEN *"); s.notLive() },
		func() { database.add(pick(rng, toxics())); moment(2000); database.heal() },
		func() { n.add(pick(rng, toxics())); moment(2000); n.heal() },
		n.heal,
		func() { s.server.kill(); moment(500); s.server.start() },
		func() { s.server.signal(syscall.SIGSTOP); moment(3000); s.server.signal(syscall.SIGCONT) },
		func() { s.server.signal(syscall.SIGTERM); s.server.wait(); s.server.start() },
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		s.fault(pick(rng, faults))
		s.server.ready() // or what follows could not be told from what went before
		moment(1000)
	}
	stop()
	s.finish()
}

func pick[T any](rng *rand.Rand, all []T) T { return all[rng.IntN(len(all))] }
