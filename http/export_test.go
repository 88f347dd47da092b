package http

// Turns returns what asks whether the next of so many due turns may be taken now, where
// unread says whether the source has more to read.
func Turns(unread func() bool) (next func(due int) bool) {
	g := &giveWay{unread: unread}
	return g.next
}
