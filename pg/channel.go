package pg

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"attune/wire"
)

// maxChannel is the length of a PostgreSQL identifier, in bytes. LISTEN would cut a
// longer name, and pg_notify refuse it.
const maxChannel = 63

// DefaultChannels returns the channels of an Attune platform.
func DefaultChannels() []string {
	return []string{
		"attune_notifications",
		"execution_status_changed",
		"execution_created",
		"inquiry_created",
		"inquiry_responded",
		"inquiry_timeout",
		"enforcement_created",
		"enforcement_status_changed",
		"event_created",
		"workflow_execution_status_changed",
		"artifact_created",
		"artifact_updated",
		"work_queue_created",
		"work_queue_updated",
		"work_queue_item_created",
		"work_queue_item_updated",
	}
}

// ValidateChannels returns an error that names every channel which PostgreSQL could
// not listen on.
func ValidateChannels(channels []string) error {
	var errs []error
	for _, name := range channels {
		switch {
		case name == "":
			errs = append(errs, fmt.Errorf("channel %q: want 1 to %d bytes", name, maxChannel))
		case len(name) > maxChannel:
			errs = append(errs, fmt.Errorf("channel %q: %d bytes, want at most %d", name, len(name), maxChannel))
		case !utf8.ValidString(name) || strings.ContainsRune(name, 0):
			errs = append(errs, fmt.Errorf("channel %q: want UTF-8 without NUL", name))
		}
	}
	return errors.Join(errs...)
}

// SkipReason tells why a notification was skipped.
type SkipReason string

// The reasons, a closed set: metrics are labelled with them.
const (
	SkipInvalidJSON SkipReason = "invalid_json"
	SkipNotObject   SkipReason = "not_object"
	SkipEntityType  SkipReason = "entity_type"
	SkipEntityID    SkipReason = "entity_id"
	SkipUserID      SkipReason = "user_id"
	SkipLogRow      SkipReason = "log_row" // of the log: what is wrong with it is logged
)

// SkipError refuses a payload. It does not tell the payload's content.
type SkipError struct {
	Reason SkipReason
}

// Error names the reason.
func (e *SkipError) Error() string { return "skip notification: " + string(e.Reason) }

// Decode decodes the payload of a notification received on channel at the time at.
// The payload must be a JSON object with a string "entity_type", an "entity_id" (or,
// where that is missing, an "entity") that is an int64 or a string, and optionally a
// "user_id" that is an int64 or null. Names are compared exactly; of equal names the
// last one counts, as in jsonb. Anything else is a *SkipError.
func Decode(channel string, payload []byte, at time.Time) (wire.Notification, error) {
	_, n, err := decode(nil, channel, payload, at)
	return n, err
}

// decode does as Decode, and appends the notification's payload to text, where it is.
func decode(text []byte, channel string, payload []byte, at time.Time) ([]byte, wire.Notification, error) {
	// PostgreSQL checks text against the database's encoding, but SQL_ASCII checks nothing.
	if !utf8.Valid(payload) {
		return text, wire.Notification{}, &SkipError{SkipInvalidJSON}
	}
	from := len(text)
	text, ok := wire.Compact(text, payload) // removes white space and nothing else: the writer's tokens stay
	if !ok {
		return text, wire.Notification{}, &SkipError{SkipInvalidJSON}
	}
	n := wire.Notification{NotificationType: channel, Payload: text[from:len(text):len(text)], Timestamp: at}
	if err := decodeMembers(&n); err != nil {
		return text[:from], wire.Notification{}, err
	}
	return text, n, nil
}

// decodeMembers sets what n's payload says of it.
func decodeMembers(n *wire.Notification) error {
	if !wire.IsObject(n.Payload) {
		return &SkipError{SkipNotObject}
	}
	var entityType, entityID, entity, user json.RawMessage
	for name, value := range wire.Members(n.Payload) {
		switch string(name) {
		case "entity_type":
			entityType = value
		case "entity_id":
			entityID = value
		case "entity":
			entity = value
		case "user_id":
			user = value
		}
	}

	var ok bool
	if n.EntityType, ok = wire.ParseString(entityType); !ok || !wire.IsTypeName(n.EntityType) {
		return &SkipError{SkipEntityType}
	}
	if entityID == nil {
		entityID = entity
	}
	var err error
	if n.EntityID, err = wire.ParseEntityID(entityID); err != nil {
		return &SkipError{SkipEntityID}
	}
	if user != nil && string(user) != "null" {
		value, err := wire.ParseInt(user)
		if err != nil {
			return &SkipError{SkipUserID}
		}
		n.UserID = &value
	}
	return nil
}
