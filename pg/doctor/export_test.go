package doctor

import "time"

// What is hard to bring a server to is judged on figures.
var (
	JudgeVersion = judgeVersion //nolint:gochecknoglobals // for tests
	JudgeQueue   = judgeQueue   //nolint:gochecknoglobals // for tests
	ReadSessions = readSessions //nolint:gochecknoglobals // for tests
)

// Session is a session that may hold the queue.
type Session = session

// InTransaction returns a session that has been in a transaction for that long.
func InTransaction(who string, age time.Duration) Session {
	return session{who: who, inTransaction: age}
}

// Deaf returns a session whose client does not read.
func Deaf(who string) Session { return session{who: who, deaf: true} }

// Follow follows what a trigger's function sends.
func Follow(source string) {
	f := &function{name: "public.f", call: "f", source: uncommented(source), language: "plpgsql"}
	t := trigger{columns: []column{{name: "doc", unbounded: true, document: true}}}
	if t.resolve(0, nil, []*function{f}) {
		t.follow(nil)
		t.unbounded()
		t.lacks()
	}
}
