package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Mode is the health of the source as clients see it.
type Mode string

// Live: notifications arrive. Degraded: they do not arrive now; read if you must know.
const (
	ModeLive     Mode = "live"
	ModeDegraded Mode = "degraded"
)

// GapReason tells why notifications may be missing.
type GapReason string

// The reasons of a gap.
const (
	GapListenerReconnected GapReason = "listener_reconnected"
	GapCursorExpired       GapReason = "cursor_expired"
	GapCursorUnknown       GapReason = "cursor_unknown"
	GapCursorInvalid       GapReason = "cursor_invalid"
	GapSourceOverflow      GapReason = "source_overflow"
)

// ByeReason tells why the server ends an event stream.
type ByeReason string

// The reasons of a bye.
const (
	ByeServerShutdown  ByeReason = "server_shutdown"
	ByeTokenExpired    ByeReason = "token_expired"
	ByeAccessWithdrawn ByeReason = "access_withdrawn"
	ByeSlowConsumer    ByeReason = "slow_consumer"
	ByeOverCapacity    ByeReason = "over_capacity"
)

// ServerMessage is a frame that the server sends: a JSON object whose "type" names
// the message.
//
//sumtype:decl
type ServerMessage interface {
	serverMessage() string
}

// Welcome is the first frame of every connection. Filters and Cursor are sent on
// event streams, ClientID and Message on WebSockets.
type Welcome struct {
	ClientID string   `json:"client_id,omitempty"`
	Message  string   `json:"message,omitempty"`
	Mode     Mode     `json:"mode"`
	Filters  []string `json:"filters,omitempty"`
	Cursor   *Cursor  `json:"cursor,omitempty"`
}

// Subscribed acknowledges a filter. Delivery starts at Cursor.
type Subscribed struct {
	Filter string `json:"filter"`
	Cursor Cursor `json:"cursor"`
}

// Unsubscribed acknowledges that a filter is gone.
type Unsubscribed struct {
	Filter string `json:"filter"`
}

// Gap says that notifications may be missing before Cursor: read the state again.
type Gap struct {
	Reason GapReason `json:"reason"`
	Cursor Cursor    `json:"cursor"`
}

// SourceStatus says that the source's health changed.
type SourceStatus struct {
	Mode Mode `json:"mode"`
}

// Pong answers a ping.
type Pong struct{}

// Bye is the last event of a stream that the server ends.
type Bye struct {
	Reason ByeReason `json:"reason"`
}

// Authenticated acknowledges a token that was sent in an auth frame: the connection
// lives as long as that token.
type Authenticated struct {
	UserID    int64     `json:"user_id"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (Welcome) serverMessage() string       { return "welcome" }
func (Subscribed) serverMessage() string    { return "subscribed" }
func (Unsubscribed) serverMessage() string  { return "unsubscribed" }
func (Gap) serverMessage() string           { return "gap" }
func (SourceStatus) serverMessage() string  { return "status" }
func (Pong) serverMessage() string          { return "pong" }
func (Bye) serverMessage() string           { return "bye" }
func (Authenticated) serverMessage() string { return "authenticated" }

// EncodeServerMessage returns m as one line of JSON, its type first.
func EncodeServerMessage(m ServerMessage) []byte {
	if n, ok := m.(Notification); ok {
		b, _ := n.MarshalJSON() // never fails
		return b
	}
	return appendTagged(nil, m.serverMessage(), m)
}

// DecodeServerMessage decodes a frame that a server sent. A type that this version
// does not know gives a nil message and no error: newer servers may send more. A
// frame that names no type is an error: it may have been a notification.
func DecodeServerMessage(b []byte) (ServerMessage, error) {
	tag, _, err := decodeTag(b)
	if err != nil {
		return nil, err
	}
	switch tag {
	case "":
		return nil, &Error{Code: CodeUnknownType, Message: `the frame has no "type"`}
	case "notification":
		return decodeAs[Notification](b)
	case "welcome":
		return decodeAs[Welcome](b)
	case "subscribed":
		return decodeAs[Subscribed](b)
	case "unsubscribed":
		return decodeAs[Unsubscribed](b)
	case "gap":
		return decodeAs[Gap](b)
	case "status":
		return decodeAs[SourceStatus](b)
	case "pong":
		return Pong{}, nil
	case "bye":
		return decodeAs[Bye](b)
	case "authenticated":
		return decodeAs[Authenticated](b)
	case "error":
		m, err := decodeAs[Error](b)
		return &m, err
	}
	return nil, nil
}

// ClientMessage is a frame that a client sends.
//
//sumtype:decl
type ClientMessage interface {
	clientMessage() string
}

// Subscribe adds a filter. Cursor, if not nil, is the text of the cursor to deliver
// from; it is kept as sent, so that a bad one is answered by a gap.
type Subscribe struct {
	Filter string  `json:"filter"`
	Cursor *string `json:"cursor,omitempty"`
}

// Unsubscribe removes a filter.
type Unsubscribe struct {
	Filter string `json:"filter"`
}

// Ping asks for a pong.
type Ping struct{}

// Auth hands over a new token before the one of the connection expires.
type Auth struct {
	Token string `json:"token"`
}

func (Subscribe) clientMessage() string   { return "subscribe" }
func (Unsubscribe) clientMessage() string { return "unsubscribe" }
func (Ping) clientMessage() string        { return "ping" }
func (Auth) clientMessage() string        { return "auth" }

// EncodeClientMessage returns m as one line of JSON, its type first.
func EncodeClientMessage(m ClientMessage) []byte { return appendTagged(nil, m.clientMessage(), m) }

// DecodeClientMessage decodes a frame that a client sent. What it refuses is an
// *Error: CodeInvalidJSON where b is no JSON object, CodeUnknownType where its type
// is missing or unknown, CodeInvalidFilter where "filter" is no string,
// CodeUnauthenticated where "token" is none.
func DecodeClientMessage(b []byte) (ClientMessage, error) {
	if !utf8.Valid(b) { // encoding/json would replace what is wrong
		return nil, &Error{Code: CodeInvalidJSON, Message: "the frame is not UTF-8"}
	}
	tag, members, err := decodeTag(b)
	if err != nil {
		return nil, err
	}
	switch tag {
	case "ping":
		return Ping{}, nil
	case "auth":
		token, ok := ParseString(members["token"])
		if !ok {
			return nil, &Error{Code: CodeUnauthenticated, Message: `"token" must be a string: the new token`}
		}
		return Auth{Token: token}, nil
	case "subscribe", "unsubscribe":
	default:
		return nil, &Error{Code: CodeUnknownType, Message: fmt.Sprintf("type %.40q: want subscribe, unsubscribe, ping or auth", tag)}
	}
	filter, ok := ParseString(members["filter"])
	if !ok {
		return nil, &Error{Code: CodeInvalidFilter, Message: `"filter" must be a string, one of ` + FilterForms}
	}
	if tag == "unsubscribe" {
		return Unsubscribe{Filter: filter}, nil
	}
	m := Subscribe{Filter: filter}
	if cursor := members["cursor"]; len(cursor) > 0 && string(cursor) != "null" {
		text, _ := ParseString(cursor) // what is no string is no cursor of ours, not even 1.5: "" is refused as one
		m.Cursor = &text
	}
	return m, nil
}

// decodeTag returns the members of the object in b and its "type", "" when it has none.
func decodeTag(b []byte) (string, map[string]json.RawMessage, error) {
	members, err := Object(b)
	if err != nil {
		return "", nil, &Error{Code: CodeInvalidJSON, Message: "the frame is no JSON object", Err: err}
	}
	tag, _ := ParseString(members["type"])
	return tag, members, nil
}

// errNotObject tells why a JSON text has no members.
var errNotObject = errors.New("want a JSON object")

// Object returns the members of the JSON object in b, of equal names the last one.
// Unlike a struct's fields, names are compared exactly.
func Object(b []byte) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return nil, err
	}
	if members == nil { // null
		return nil, errNotObject
	}
	return members, nil
}

func decodeAs[M any](b []byte) (m M, err error) {
	err = json.Unmarshal(b, &m)
	return m, err
}

// appendTagged appends m, a struct, with "type" as its first member.
func appendTagged(b []byte, tag string, m any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // people read the <type> and <id> of error messages
	_ = enc.Encode(m)        // messages are plain structs: they always encode
	body := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	b = append(append(append(b, `{"type":"`...), tag...), '"')
	if len(body) > len(`{}`) {
		b = append(b, ',')
	}
	return append(b, body[1:]...)
}
