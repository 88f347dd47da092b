package client

import (
	"encoding/json"
	"time"

	"attune/wire"
)

// Event is something that Wait or WaitEntity did or learned on its way.
//
//sumtype:decl
type Event interface{ event() }

// Connected says that there is a WebSocket to URL.
type Connected struct{ URL string }

// Session says that the server calls this client ID.
type Session struct{ ID string }

// Subscribed says that the server delivers what matches Filter.
type Subscribed struct{ Filter string }

// Notified says that a notification told how things stand: Wait the execution's
// Status, WaitEntity the notification's Payload.
type Notified struct {
	NotificationType string
	Status           wire.Status
	Payload          json.RawMessage
}

// Read says that the row differs from what notifications told: Wait its Status,
// WaitEntity its Payload.
type Read struct {
	Status  wire.Status
	Payload json.RawMessage
}

// Missed says that notifications may be missing, so the row is read.
type Missed struct{ Reason wire.GapReason }

// ModeChanged says that the health of the server's source is now Mode.
type ModeChanged struct{ Mode wire.Mode }

// Lost says that there is no connection; the next attempt follows after Retry, and
// the row is read meanwhile.
type Lost struct {
	Err   error
	Retry time.Duration
}

// Polling says that from here on only the row is read. Err tells why notifications cannot be
// had; nil when their share of the time is over.
type Polling struct{ Err error }

// ReadFailed says that the row could not be read now; it is tried again.
type ReadFailed struct{ Err error }

func (Connected) event()   {}
func (Session) event()     {}
func (Subscribed) event()  {}
func (Notified) event()    {}
func (Read) event()        {}
func (Missed) event()      {}
func (ModeChanged) event() {}
func (Lost) event()        {}
func (Polling) event()     {}
func (ReadFailed) event()  {}
