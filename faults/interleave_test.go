package faults_test

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"
)

// interleave has sessions run transactions that take their numbers early and commit
// late, each with two equal notifications among others, and notes how many pairs of
// neighbours were committed against the order of their numbers.
func (s *scene) interleave(sessions, transactions int) {
	s.t.Helper()
	group, ctx := errgroup.WithContext(s.t.Context())
	for i := range sessions {
		rng := rand.New(rand.NewPCG(*seed, uint64(i)))
		group.Go(func() error {
			conn, err := s.db.connect(ctx)
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			for range transactions {
				tx, err := conn.Begin(ctx)
				if err != nil {
					return err
				}
				first := s.db.next(rng.IntN(300))
				for _, o := range []order{first, s.db.next(10), first} {
					if err := s.db.put(ctx, tx, o); err != nil {
						return err
					}
				}
				if _, err := tx.Exec(ctx, fmt.Sprintf(`SELECT pg_sleep(%g)`, rng.Float64()/100)); err != nil {
					return err
				}
				if err := tx.Commit(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		s.t.Fatal(err)
	}
	order := `SELECT n, place AS at FROM faults.commits`
	if s.db.source == sourceLog {
		order = `SELECT (payload->>'n')::bigint AS n, seq AS at FROM attune_live.notification_log`
	}
	inversions := value[int](s.db, `SELECT count(*)::int FROM (SELECT n < lag(n) OVER (ORDER BY at) AS back FROM (`+order+`) o) i WHERE back`)
	if inversions == 0 {
		s.t.Error("all were committed in the order of their numbers: nothing is proved")
	}
	s.note = fmt.Sprintf("%d inversions", inversions)
}
