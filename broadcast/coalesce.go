package broadcast

import (
	"encoding/json"
	"slices"

	"attune/wire"
)

// limit is how much may gather in one place.
type limit struct {
	messages int
	bytes    int // 0: as large as they are
}

func (l limit) reached(messages, bytes int) bool {
	return messages >= l.messages || (l.bytes > 0 && bytes >= l.bytes)
}

func (l limit) exceeded(messages, bytes int) bool {
	return messages > l.messages || (l.bytes > 0 && bytes > l.bytes)
}

// makeRoom coalesces a queue that has reached the limit, and reports whether that freed
// a quarter. Less is not worth it: it would soon be full again, and whoever publishes
// pays for each time.
func (l limit) makeRoom(queue []*wire.Frame, bytes int) (kept []*wire.Frame, left int, ok bool) {
	kept, left = coalesce(queue)
	freed := 4*left <= 3*bytes
	if len(queue) >= l.messages {
		freed = 4*len(kept) <= 3*len(queue)
	}
	return kept, left, freed && !l.reached(len(kept), left)
}

// entityKey identifies an entity in a queue.
type entityKey struct{ kind, id string }

// coalesce keeps of a queue the last notification of each entity, which then says
// for how many it stands, every notification with a terminal status, and everything
// that is no notification, in their order. It also returns the bytes that are left.
func coalesce(queue []*wire.Frame) (kept []*wire.Frame, bytes int) {
	// Backwards, so that the first of an entity to be met is the one that stays.
	last := make(map[entityKey]int) // index in kept
	dropped := make(map[int]int)    // by index in kept
	for _, frame := range slices.Backward(queue) {
		n, ok := frame.Message.(wire.Notification)
		if !ok {
			kept = append(kept, frame)
			continue
		}
		key := entityKey{n.EntityType, n.EntityID.String()}
		at, newer := last[key]
		if newer && !terminal(n.Payload) {
			dropped[at] += 1 + n.Coalesced
			continue
		}
		if !newer {
			last[key] = len(kept)
		}
		kept = append(kept, frame)
	}
	for at, count := range dropped {
		n, _ := kept[at].Message.(wire.Notification) // nothing else is counted
		n.Coalesced += count
		kept[at] = wire.NewNotificationFrame(n)
	}
	slices.Reverse(kept)
	for _, frame := range kept {
		bytes += len(frame.JSON())
	}
	return kept, bytes
}

// terminal reports whether a payload says that its entity has reached its end.
func terminal(payload json.RawMessage) bool {
	members, err := wire.Object(payload)
	if err != nil {
		return false
	}
	var status wire.Status
	return json.Unmarshal(members["status"], &status) == nil && status.Terminal()
}
