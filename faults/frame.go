package faults

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// FrameKind is the type of a frame.
type FrameKind string

// The kinds of frames that the checker acts on.
const (
	KindWelcome      FrameKind = "welcome"
	KindSubscribed   FrameKind = "subscribed"
	KindUnsubscribed FrameKind = "unsubscribed"
	KindNotification FrameKind = "notification"
	KindGap          FrameKind = "gap"
	KindStatus       FrameKind = "status"
	KindBye          FrameKind = "bye"
)

// Body is what a notification says: everything but its cursor and its time.
type Body struct {
	Channel, EntityType, EntityID string
	User                          string   // decimal; "" for everybody
	Payload                       [32]byte // SHA-256 of the JSON without white space
}

// NewBody returns the Body of a notification; payload is JSON.
func NewBody(channel, entityType, entityID, user string, payload []byte) (Body, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, payload); err != nil {
		return Body{}, fmt.Errorf("payload: %w", err)
	}
	return Body{
		Channel: channel, EntityType: entityType, EntityID: entityID, User: user,
		Payload: sha256.Sum256(compact.Bytes()),
	}, nil
}

// String names the body, without its payload.
func (b Body) String() string {
	return fmt.Sprintf("%s %s:%s #%s", b.Channel, b.EntityType, b.EntityID, hex.EncodeToString(b.Payload[:4]))
}

// Frame is what a server sent.
type Frame struct {
	At      time.Time // when it had arrived
	Kind    FrameKind
	Filter  string   // of subscribed and unsubscribed
	Filters []string // of a welcome
	Cursor  string
	Body    Body   // of a notification
	Reason  string // of a gap or bye
	Mode    string // of a welcome or status
}

// ParseFrame decodes a frame that arrived at the time at.
func ParseFrame(b []byte, at time.Time) (Frame, error) {
	var v struct {
		Type             FrameKind       `json:"type"`
		Filter           string          `json:"filter"`
		Filters          []string        `json:"filters"`
		Cursor           string          `json:"cursor"`
		Reason           string          `json:"reason"`
		Mode             string          `json:"mode"`
		NotificationType string          `json:"notification_type"`
		EntityType       string          `json:"entity_type"`
		EntityID         json.RawMessage `json:"entity_id"`
		UserID           *json.Number    `json:"user_id"`
		Payload          json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return Frame{}, fmt.Errorf("frame of %d bytes: %w", len(b), err)
	}
	if v.Type == "" {
		return Frame{}, fmt.Errorf("frame of %d bytes: no type", len(b))
	}
	f := Frame{At: at, Kind: v.Type, Filter: v.Filter, Filters: v.Filters, Cursor: v.Cursor, Reason: v.Reason, Mode: v.Mode}
	if f.Kind != KindNotification {
		return f, nil
	}
	id := string(v.EntityID)
	if strings.HasPrefix(id, `"`) {
		if err := json.Unmarshal(v.EntityID, &id); err != nil {
			return Frame{}, fmt.Errorf("entity id: %w", err)
		}
	}
	user := ""
	if v.UserID != nil {
		user = v.UserID.String()
	}
	var err error
	f.Body, err = NewBody(v.NotificationType, v.EntityType, id, user, v.Payload)
	return f, err
}

// matches reports whether a filter, in one of the protocol's forms, matches b.
func matches(filter string, b *Body) bool {
	kind, rest, _ := strings.Cut(filter, ":")
	switch kind {
	case "all":
		return true
	case "entity_type":
		return rest == b.EntityType
	case "entity":
		entityType, id, _ := strings.Cut(rest, ":")
		return entityType == b.EntityType && id == b.EntityID
	case "user":
		return b.User != "" && rest == b.User
	case "notification_type":
		return rest == b.Channel
	}
	return false
}
