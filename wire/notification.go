// Package wire holds what travels between attune and its clients: notifications,
// filters, cursors, tagged messages, executions and errors, with their encodings.
//
// It is a leaf: it imports nothing of ours and knows no transport. Every shape
// here is pinned by a golden frame in testdata.
package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// TimestampLayout is RFC 3339 in UTC with microseconds, PostgreSQL's resolution.
const TimestampLayout = "2006-01-02T15:04:05.000000Z"

// Notification is one decoded PostgreSQL notification.
type Notification struct {
	// NotificationType is the PostgreSQL channel.
	NotificationType string
	// EntityType is 1 to 63 characters of [A-Za-z0-9_.-].
	EntityType string
	EntityID   EntityID
	// UserID restricts who may see the notification; nil: everybody.
	UserID *int64
	// Payload is the NOTIFY payload: a JSON object, its tokens as the writer
	// wrote them, without white space between them.
	Payload json.RawMessage
	// Timestamp is when the server received the notification.
	Timestamp time.Time
	// Cursor is the position right after this notification.
	Cursor Cursor
	// Coalesced is how many earlier notifications of the entity this one stands for,
	// on a connection that asked for the latest only.
	Coalesced int
}

func (Notification) serverMessage() string { return "notification" }

// MarshalJSON encodes n as the tagged object that travels on every transport.
// It does not go through encoding/json for the payload, which would escape
// characters that the writer had left alone.
func (n Notification) MarshalJSON() ([]byte, error) {
	b, _ := n.append(make([]byte, 0, n.size()))
	return b, nil
}

// size returns how many bytes append appends, or a few more; where a name needs an
// escape, it may be fewer.
func (n *Notification) size() int {
	const (
		names   = len(`{"type":"notification","notification_type":"","entity_type":"","entity_id":"","user_id":,"payload":,"timestamp":"","cursor":""}`)
		numbers = 20 + len(TimestampLayout) + 1 + 20 // a user, and a cursor without its epoch
	)
	size := names + numbers + len(n.NotificationType) + len(n.EntityType) + len(n.EntityID.text) + len(n.Payload) + len(n.Cursor.Epoch)
	if n.Coalesced > 0 {
		size += len(`,"coalesced":`) + 20
	}
	return size
}

// append appends what MarshalJSON returns to b, and returns where in b the payload begins.
func (n *Notification) append(b []byte) (appended []byte, payload int) {
	b = append(b, `{"type":"notification","notification_type":`...)
	b = appendString(b, n.NotificationType)
	b = append(b, `,"entity_type":`...)
	b = appendString(b, n.EntityType)
	b = append(b, `,"entity_id":`...)
	b = n.EntityID.append(b)
	b = append(b, `,"user_id":`...)
	if n.UserID == nil {
		b = append(b, `null`...)
	} else {
		b = strconv.AppendInt(b, *n.UserID, 10)
	}
	b = append(b, `,"payload":`...)
	payload = len(b)
	b = append(b, n.Payload...)
	b = append(b, `,"timestamp":"`...)
	b = n.Timestamp.UTC().AppendFormat(b, TimestampLayout)
	b = append(b, `","cursor":"`...)
	b = n.Cursor.append(b) // nothing in it needs an escape
	b = append(b, '"')
	if n.Coalesced > 0 {
		b = append(b, `,"coalesced":`...)
		b = strconv.AppendInt(b, int64(n.Coalesced), 10)
	}
	return append(b, '}'), payload
}

// UnmarshalJSON decodes what MarshalJSON wrote.
func (n *Notification) UnmarshalJSON(b []byte) error {
	var v struct {
		NotificationType string          `json:"notification_type"`
		EntityType       string          `json:"entity_type"`
		EntityID         EntityID        `json:"entity_id"`
		UserID           *int64          `json:"user_id"`
		Payload          json.RawMessage `json:"payload"`
		Timestamp        time.Time       `json:"timestamp"`
		Cursor           Cursor          `json:"cursor"`
		Coalesced        int             `json:"coalesced"`
	}
	if err := json.Unmarshal(b, &v); err != nil { //nolint:musttag,nolintlint // a Cursor is its text; the linter does not always see it
		return err
	}
	*n = Notification(v)
	return nil
}

// appendString appends s as a JSON string. Names are nearly always plain, so the
// encoder is asked only where one needs an escape.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string always encodes
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// EntityID is the key of an entity: an int64, or a string of 1 to 128 characters
// of [A-Za-z0-9_.-]. The zero EntityID is no entity.
type EntityID struct {
	text    string // as filters compare it; canonical decimal for an integer
	integer bool
}

// IntID returns the EntityID of an integer key.
func IntID(id int64) EntityID { return EntityID{text: strconv.FormatInt(id, 10), integer: true} }

// StringID returns the EntityID of a textual key.
func StringID(id string) (EntityID, error) {
	if !isName(id, maxID) {
		return EntityID{}, fmt.Errorf("entity id %.40q: want 1 to %d characters of [A-Za-z0-9_.-]", id, maxID)
	}
	return EntityID{text: id}, nil
}

// ParseEntityID decodes the JSON value of an entity id: an integer without
// fraction or exponent that fits an int64, or a string.
func ParseEntityID(value []byte) (EntityID, error) {
	if len(value) > 0 && value[0] == '"' {
		s, ok := ParseString(value)
		if !ok {
			return EntityID{}, errNotString
		}
		return StringID(s)
	}
	id, err := ParseInt(value)
	if err != nil {
		return EntityID{}, fmt.Errorf("entity id: %w", err)
	}
	return IntID(id), nil
}

// errNotInteger tells why a JSON value is no int64.
var errNotInteger = errors.New("want an integer of 64 bits, without fraction or exponent")

// errNotString tells why a JSON text that begins like a string is none.
var errNotString = errors.New("want a JSON string")

// ParseInt decodes a JSON value that must be an int64 written as an integer.
func ParseInt(value []byte) (int64, error) {
	id, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || value[0] == '+' {
		return 0, errNotInteger
	}
	return id, nil
}

// String returns the id as filters compare it.
func (id EntityID) String() string { return id.text }

// Int64 returns the id of an entity with an integer key.
func (id EntityID) Int64() (int64, bool) {
	if !id.integer {
		return 0, false
	}
	n, err := strconv.ParseInt(id.text, 10, 64)
	return n, err == nil
}

func (id EntityID) append(b []byte) []byte {
	if id.integer {
		return append(b, id.text...)
	}
	return appendString(b, id.text)
}

// MarshalJSON encodes an integer key as a number and any other as a string.
func (id EntityID) MarshalJSON() ([]byte, error) { return id.append(nil), nil }

// UnmarshalJSON decodes what MarshalJSON wrote.
func (id *EntityID) UnmarshalJSON(b []byte) (err error) {
	*id, err = ParseEntityID(b)
	return err
}
