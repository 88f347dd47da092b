package faults_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"attune/faults"
)

// story is a history in a few words. Commits are made one a second: commit n, of
// entity n%2, is asked for at second n. A client's frames come in seconds of their own.
type story struct {
	t       *testing.T
	history faults.History
}

func newStory(t *testing.T, commits int) *story {
	t.Helper()
	s := &story{t: t}
	for n := 1; n <= commits; n++ {
		s.history.Commits = append(s.history.Commits, faults.Commit{Body: s.body(n), Asked: second(float64(n))})
	}
	return s
}

func second(n float64) time.Time {
	return time.Unix(0, 0).Add(time.Duration(n * float64(time.Second)))
}

func (s *story) body(n int) faults.Body {
	s.t.Helper()
	b, err := faults.NewBody("orders_changed", "orders", fmt.Sprint(n%2), "", fmt.Appendf(nil, `{"n": %d}`, n))
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// connection writes down frames. Each is a word: "+filter@s" acknowledged at second
// s, "-filter@s" unsubscribed, "gap@s", "n" a notification, "end" the complete end.
func (s *story) connection(client, resume string, frames ...string) {
	s.t.Helper()
	conn := faults.Connection{Resume: resume}
	for _, word := range frames {
		word, at, _ := strings.Cut(word, "@")
		var sec float64
		if at != "" {
			if _, err := fmt.Sscan(at, &sec); err != nil {
				s.t.Fatal(err)
			}
		}
		f := faults.Frame{At: second(sec)}
		switch {
		case word == "end":
			conn.Complete = true
			continue
		case word[0] == '+':
			f.Kind, f.Filter, f.Cursor = faults.KindSubscribed, word[1:], "ack"+at
			if len(conn.Frames) == 0 {
				conn.Filters = []string{f.Filter}
			}
		case word[0] == '-':
			f.Kind, f.Filter = faults.KindUnsubscribed, word[1:]
		case word == "gap":
			f.Kind, f.Cursor, f.Reason = faults.KindGap, "gap"+at, "listener_reconnected"
		default:
			var n int
			if _, err := fmt.Sscan(word, &n); err != nil {
				s.t.Fatal(err)
			}
			f.Kind, f.Body, f.Cursor = faults.KindNotification, s.body(n), fmt.Sprintf("e.%d", n)
		}
		conn.Frames = append(conn.Frames, f)
	}
	for i := range s.history.Clients {
		if c := &s.history.Clients[i]; c.Name == client {
			c.Connections = append(c.Connections, conn)
			return
		}
	}
	s.history.Clients = append(s.history.Clients, faults.Client{Name: client, Connections: []faults.Connection{conn}})
}

func (s *story) check(want ...faults.Kind) faults.Report {
	s.t.Helper()
	report := faults.Check(s.history)
	var got []faults.Kind
	for _, v := range report.Violations {
		got = append(got, v.Kind)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("violations %v, want %v:\n%v", got, want, report.Violations)
	}
	return report
}

func TestCheck_Kept(t *testing.T) {
	t.Parallel()
	for name, frames := range map[string][]string{
		"All":             {"+all@0.5", "1", "2", "3", "4", "end"},
		"FromTheMiddle":   {"+all@2.5", "3", "4", "end"},
		"LateButSeen":     {"+all@2.5", "2", "3", "4", "end"},
		"CutShort":        {"+all@0.5", "1", "2"},
		"Filtered":        {"+entity:orders:1@0.5", "1", "3", "end"},
		"OtherType":       {"+entity_type:users@0.5", "end"},
		"Type":            {"+notification_type:orders_changed@0.5", "1", "2", "3", "4", "end"},
		"User":            {"+user:7@0.5", "end"},
		"Gap":             {"+all@0.5", "1", "gap@3.5", "4", "end"},
		"GapAtTheEnd":     {"+all@0.5", "1", "gap@4.5", "end"},
		"GapAndNothing":   {"+all@0.5", "gap@0.7", "1", "2", "3", "4", "end"},
		"TwoGaps":         {"+all@0.5", "1", "gap@1.5", "gap@2.5", "3", "4", "end"},
		"Unsubscribed":    {"+all@0.5", "1", "2", "-all@2.5", "end"},
		"OneUnsubscribed": {"+entity:orders:0@0.5", "+entity:orders:1@0.6", "1", "2", "-entity:orders:1@2.5", "4", "end"},
		"SecondFilter":    {"+entity:orders:1@0.5", "1", "+entity:orders:0@2.5", "3", "4", "end"},
		"Again":           {"+all@0.5", "1", "-all@1.5", "+all@3.5", "4", "end"},
		"AgainAtOnce":     {"+all@0.5", "1", "+all@3.5", "2", "3", "4", "end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, 4)
			s.connection("a", "", frames...)
			s.check()
		})
	}
}

func TestCheck_Broken(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		frames []string
		want   faults.Kind
	}{
		"Hole":             {[]string{"+all@0.5", "1", "2", "4", "end"}, faults.Hole},
		"HoleAtTheStart":   {[]string{"+all@0.5", "2", "3", "4", "end"}, faults.Hole},
		"HoleAtTheEnd":     {[]string{"+all@0.5", "1", "2", "3", "end"}, faults.Hole},
		"Nothing":          {[]string{"+all@3.5", "end"}, faults.Hole},
		"HoleWhenCut":      {[]string{"+all@0.5", "1", "3"}, faults.Hole},
		"HoleFiltered":     {[]string{"+entity:orders:1@0.5", "3", "end"}, faults.Hole},
		"HoleBeforeGap":    {[]string{"+all@0.5", "1", "3", "gap@3.5", "4", "end"}, faults.Hole},
		"HoleAfterGap":     {[]string{"+all@0.5", "gap@1.5", "3", "4", "end"}, faults.Hole},
		"GapOnlyOnce":      {[]string{"+all@0.5", "gap@2.5", "1", "3", "4", "end"}, faults.Hole},
		"HoleSecondFilter": {[]string{"+entity:orders:1@0.5", "+entity:orders:0@0.6", "1", "3", "4", "end"}, faults.Hole},
		"HoleLateFilter":   {[]string{"+entity:orders:1@0.5", "1", "+entity:orders:0@1.5", "3", "4", "end"}, faults.Hole},
		"Disorder":         {[]string{"+all@0.5", "gap@0.6", "1", "gap@2.5", "3", "2", "4", "end"}, faults.Disorder},
		"Duplicate":        {[]string{"+all@0.5", "1", "2", "2", "3", "4", "end"}, faults.Duplicate},
		"DuplicateLater":   {[]string{"+all@0.5", "1", "2", "3", "2", "4", "end"}, faults.Duplicate},
		"AfterUnsubscribe": {[]string{"+all@0.5", "1", "-all@1.5", "2"}, faults.AfterAck},
		"Unasked":          {[]string{"+entity:orders:1@0.5", "1", "2", "3", "end"}, faults.Unasked},
		"BeforeSubscribed": {[]string{"1", "+all@1.5", "2", "3", "4", "end"}, faults.Unasked},
		"Phantom":          {[]string{"+all@0.5", "1", "2", "3", "4", "5", "end"}, faults.Phantom},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, 4)
			s.connection("a", "", tt.frames...)
			s.check(tt.want)
		})
	}
}

func TestCheck_Resumed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		resume string
		frames []string
		want   []faults.Kind
	}{
		"Kept":              {"e.2", []string{"+all@9", "3", "4", "end"}, nil},
		"AtTheEnd":          {"e.3", []string{"+all@9", "4", "end"}, nil},
		"Rewound":           {"e.1", []string{"+all@9", "2", "3", "4", "end"}, nil},
		"OtherFilter":       {"e.1", []string{"+entity:orders:0@9", "2", "4", "end"}, nil},
		"FromAck":           {"ack0.5", []string{"+all@9", "1", "2", "3", "4", "end"}, nil},
		"FromGap":           {"gap2.5", []string{"+all@9", "3", "4", "end"}, nil},
		"FromGapAndMore":    {"gap2.5", []string{"+all@9", "2", "3", "4", "end"}, nil},
		"Gap":               {"e.1", []string{"+all@9", "gap@9", "end"}, nil},
		"Foreign":           {"garbage", []string{"+all@0.5", "gap@0.6", "1", "2", "3", "4", "end"}, nil},
		"SecondFilterIsNew": {"e.1", []string{"+entity:orders:0@2.5", "+entity:orders:1@3.5", "2", "4", "end"}, nil},
		"Hole":              {"e.1", []string{"+all@9", "3", "4", "end"}, []faults.Kind{faults.Hole}},
		"HoleAtTheEnd":      {"e.1", []string{"+all@9", "2", "3", "end"}, []faults.Kind{faults.Hole}},
		"CaughtUpPretended": {"e.1", []string{"+all@9", "end"}, []faults.Kind{faults.Hole}},
		"HoleFromAck":       {"ack0.5", []string{"+all@9", "2", "3", "4", "end"}, []faults.Kind{faults.Hole}},
		"HoleFromGap":       {"gap2.5", []string{"+all@9", "4", "end"}, []faults.Kind{faults.Hole}},
		"Duplicate":         {"e.2", []string{"+all@9", "2", "3", "4", "end"}, []faults.Kind{faults.Duplicate}},
		"Earlier":           {"e.2", []string{"+all@9", "1", "3", "4", "end"}, []faults.Kind{faults.Disorder}},
		"ForeignTakenKnown": {"garbage", []string{"+all@0.5", "1", "2", "3", "4", "end"}, []faults.Kind{faults.MissingGap}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, 4)
			s.connection("reference", "", "+all@0.5", "1", "2", "3", "4", "end")
			s.connection("other", "", "+all@0.5", "1", "gap@2.5", "3")
			s.connection("a", tt.resume, tt.frames...)
			s.check(tt.want...)
		})
	}
}

func TestCheck_NoGaps(t *testing.T) {
	t.Parallel()
	s := newStory(t, 2)
	s.history.NoGaps = true
	s.connection("a", "", "+all@0.5", "1", "gap@1.5", "2", "end")
	if r := s.check(faults.NeedlessGap); r.Gaps != 1 || r.Delivered != 2 || r.Commits != 2 || r.Connections != 1 {
		t.Errorf("%+v", r)
	}
}

func TestCheck_Excused(t *testing.T) {
	t.Parallel()
	s := newStory(t, 4)
	s.connection("a", "", "+all@0.5", "1", "gap@3.5", "4", "end")
	if r := s.check(); r.Excused != 2 {
		t.Errorf("%d excused, want 2", r.Excused)
	}
}

// Equal notifications, as a log may hold them, count each.
func TestCheck_Equal(t *testing.T) {
	t.Parallel()
	twice := func() *story {
		s := newStory(t, 3)
		s.history.Commits[1].Body = s.history.Commits[0].Body
		return s
	}
	s := twice()
	s.connection("a", "", "+all@0.5", "1", "1", "3", "end")
	s.history.Clients[0].Connections[0].Frames[2].Cursor = "e.2"
	s.check()
	s = twice()
	s.connection("a", "", "+all@0.5", "1", "3", "end")
	s.check(faults.Hole)
	s = twice()
	s.connection("a", "", "+all@0.5", "1", "1", "1", "3", "end")
	for i := range 3 {
		s.history.Clients[0].Connections[0].Frames[1+i].Cursor = fmt.Sprintf("e.%d", 1+i)
	}
	s.check(faults.Duplicate)

	// One that another client has told apart from its equal by the cursor.
	s = twice()
	s.connection("a", "", "+all@0.5", "1", "1", "3", "end")
	s.history.Clients[0].Connections[0].Frames[2].Cursor = "e.2"
	s.connection("b", "", "+all@2", "1", "3", "end")
	s.history.Clients[1].Connections[0].Frames[1].Cursor = "e.2"
	s.check()
	s.connection("c", "", "+all@0.5", "1", "1", "3", "end")
	s.check(faults.Duplicate, faults.Hole)
}

func TestCheck_Cursor(t *testing.T) {
	t.Parallel()
	s := newStory(t, 2)
	s.connection("a", "", "+all@0.5", "1", "2", "end")
	s.history.Clients[0].Connections[0].Frames[2].Cursor = "e.1"
	s.check(faults.BadCursor)
	s.history.Clients[0].Connections[0].Frames[2].Cursor = ""
	s.check(faults.BadCursor)
}

func TestCompareLog(t *testing.T) {
	t.Parallel()
	s := newStory(t, 3)
	all := []faults.Body{s.body(1), s.body(2), s.body(3)}
	if v := faults.CompareLog(all, s.history.Commits); len(v) != 0 {
		t.Errorf("%v", v)
	}
	if v := faults.CompareLog(append(all, s.body(1)), s.history.Commits); len(v) != 1 || v[0].Kind != faults.Unlogged {
		t.Errorf("%v", v)
	}
	if v := faults.CompareLog(all[1:], s.history.Commits); len(v) != 1 || v[0].Kind != faults.Phantom {
		t.Errorf("%v", v)
	}
}

func TestCheckMemory(t *testing.T) {
	t.Parallel()
	caps := faults.Caps{Resident: 1000, Queue: 100, QueueOver: 20, Messages: 8}
	for _, tt := range []struct {
		sample faults.Sample
		want   int
	}{
		{faults.Sample{Resident: 1000, Queued: 240, Queues: 2}, 0},
		{faults.Sample{Resident: 1001, Queued: 240, Queues: 2}, 1},
		{faults.Sample{Resident: 1000, Queued: 241, Queues: 2}, 1},
		{faults.Sample{Resident: 1001, Queued: 1}, 2},
		{faults.Sample{Queued: 100, Queues: 20, Fullest: 8}, 0},
		{faults.Sample{Queued: 100, Queues: 20, Fullest: 9}, 1}, // though all together have room
		{faults.Sample{Queued: 120, Queues: 20, Fullest: 1, FullestBytes: 120}, 0},
		{faults.Sample{Queued: 121, Queues: 20, Fullest: 1, FullestBytes: 121}, 1},
	} {
		if v := faults.CheckMemory("server", []faults.Sample{tt.sample}, caps); len(v) != tt.want {
			t.Errorf("%+v: %v, want %d", tt.sample, v, tt.want)
		}
	}
}

func TestParseFrame(t *testing.T) {
	t.Parallel()
	f, err := faults.ParseFrame([]byte(`{"type":"notification","notification_type":"c","entity_type":"t","entity_id":"a","user_id":7,"payload":{"a": 1},"timestamp":"2026-01-01T00:00:00.000000Z","cursor":"e.1"}`), second(1))
	want, _ := faults.NewBody("c", "t", "a", "7", []byte(`{"a":1}`))
	if err != nil || f.Body != want || f.Cursor != "e.1" || f.Kind != faults.KindNotification {
		t.Errorf("%+v, %v", f, err)
	}
	for _, bad := range []string{``, `{}`, `[]`, `{"type":"notification"}`, `{"type":"notification","payload":{`} {
		if _, err := faults.ParseFrame([]byte(bad), second(1)); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}
