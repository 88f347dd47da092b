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

// What is done to the listener, the networks, PostgreSQL, two servers and a client's
// process, payloads and rushes at random, one after the other, for as long as -soak says.
// Each episode is checked by itself.
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
	postgres, cfg := pgtest.Server(t)
	s := sceneOn(t, source, postgres.URL())
	p := pgtest.NewProxy(t, s.db.url)
	database := newNetwork(t, hostOf(t, s.db.url))
	s.serve(at(t, s.db.url, database.addr), "ATTUNE_LISTEN_URL="+p.URL)
	one, stopFirst := s.server, s.sampled
	s.serve(s.db.url)
	two, stopSecond := s.server, s.sampled
	s.server, s.sampled = one, nil
	n := newNetwork(t, one.addr)
	all := clientsOf(t, "http://"+n.addr)
	for _, c := range all[:len(all)-1] { // the product's own know one address
		c.urls = append(c.urls, two.url)
	}
	process := newClient(t, "events 8", overCLI, "http://"+n.addr, "all")
	s.add(append(all, process)...)
	s.subscribed()
	stop := s.db.load(4, 200)
	restart := func() {
		_ = postgres.Stop(t.Context()) // what was killed is reported as such
		postgres = startAgain(t, cfg)
	}
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
		func() { two.kill(); moment(500); two.start() },
		restart,
		func() { killPostmaster(t, cfg); <-postgres.Exited(); restart() },
		func() { process.signal(syscall.SIGSTOP); moment(3000); process.signal(syscall.SIGCONT) },
		func() { s.sized(pick(rng, sizes())) },
		func() { s.db.exec(`SELECT pg_notify($1, $2)`, channel, pick(rng, nonsense())) },
		func() {
			for range 10 {
				s.db.bulk(200, 50)
			}
		},
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		s.fault(pick(rng, faults))
		one.ready() // or what follows could not be told from what went before
		two.ready()
		moment(1000)
	}
	stop()
	s.samples = append(stopFirst(), stopSecond()...)
	s.finish()
}

func pick[T any](rng *rand.Rand, all []T) T { return all[rng.IntN(len(all))] }
