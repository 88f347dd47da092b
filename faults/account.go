package faults

import (
	"fmt"
	"time"
)

// CompareLog checks that a log holds what was committed, all of it and nothing else,
// each as often as it was committed.
func CompareLog(committed []Body, log []Commit) []Violation {
	count := make(map[Body]int, len(committed))
	for _, b := range committed {
		count[b]++
	}
	for i := range log {
		count[log[i].Body]--
	}
	var violations []Violation
	for b, n := range count {
		switch {
		case n > 0:
			violations = append(violations, Violation{Kind: Unlogged, Client: "database", Detail: fmt.Sprintf("%s was committed and is %d times missing in the log", b, n)})
		case n < 0:
			violations = append(violations, Violation{Kind: Phantom, Client: "database", Detail: fmt.Sprintf("%s is %d times too often in the log", b, -n)})
		}
	}
	return violations
}

// Sample is what a server used at a time.
type Sample struct {
	At time.Time
	// Resident is the process's memory, Queued what waits in all its queues, in bytes;
	// Queues is how many there are, Fullest how many messages wait in the fullest, and
	// FullestBytes how many bytes in that with the most.
	Resident, Queued, FullestBytes int64
	Queues, Fullest                int
}

// Caps bound a server's memory. A queue accepts what it has room to begin with, so it
// may hold one message, of up to QueueOver bytes, beyond its cap. No queue may hold more
// than that, or than Messages, however little the others hold.
type Caps struct {
	Resident, Queue, QueueOver int64
	Messages                   int
}

// CheckMemory checks samples against caps.
func CheckMemory(name string, samples []Sample, caps Caps) []Violation {
	var violations []Violation
	for i, s := range samples {
		if s.Resident > caps.Resident {
			violations = append(violations, Violation{Kind: Memory, Client: name, Frame: i, Detail: fmt.Sprintf("%d bytes resident, cap %d", s.Resident, caps.Resident)})
		}
		if most := int64(s.Queues) * (caps.Queue + caps.QueueOver); s.Queued > most {
			violations = append(violations, Violation{Kind: Memory, Client: name, Frame: i, Detail: fmt.Sprintf("%d bytes in %d queues, cap %d", s.Queued, s.Queues, most)})
		}
		if most := caps.Queue + caps.QueueOver; s.FullestBytes > most {
			violations = append(violations, Violation{Kind: Memory, Client: name, Frame: i, Detail: fmt.Sprintf("%d bytes in the fullest queue, cap %d", s.FullestBytes, most)})
		}
		if s.Fullest > caps.Messages {
			violations = append(violations, Violation{Kind: Memory, Client: name, Frame: i, Detail: fmt.Sprintf("%d messages in the fullest queue, cap %d", s.Fullest, caps.Messages)})
		}
	}
	return violations
}
