package live

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"attune/wire"
)

// RequestAnnouncements has every commit announced from now on, until the session ends or
// calls ReleaseAnnouncements; ok is false where a commit stands in the way, and to be
// tried again. A commit before that, which may not have been announced, is in the log by
// then. So: LISTEN, request, read the log.
//
// The request is a shared hold on an advisory lock, which writers try to take for
// themselves: a NOTIFY that nobody waits for would have all other commits wait for
// nothing. It must be called in the session that LISTENs.
func RequestAnnouncements(ctx context.Context, session DB) (ok bool, err error) {
	err = session.QueryRow(ctx, `SELECT pg_try_advisory_lock_shared($1)`, announceLock).Scan(&ok)
	return ok, err
}

// ReleaseAnnouncements takes the request back. Commits may be announced or not from now on;
// all of them are in the log.
func ReleaseAnnouncements(ctx context.Context, session DB) error {
	_, err := session.Exec(ctx, `SELECT pg_advisory_unlock_shared($1)`, announceLock)
	return err
}

// announceLock is the same everywhere; its number stands for nothing.
const announceLock = int64(7022364301868297335)

// lost is the announcement of a loss.
const lost = "lost"

// Announcement is one NOTIFY on Channel.
type Announcement struct {
	// Seq is the number of the row in the log, above 0; 0 for a loss.
	Seq int64
	// Notification is what the row holds, without timestamp and cursor. nil: it was
	// too large to be announced, and stands in the log.
	Notification *wire.Notification
	// Lost says that at this place notifications were not logged.
	Lost bool
}

// ParseAnnouncement reads the payload of a NOTIFY on Channel. The error does not
// tell its content. When it comes with a Seq above 0, the row may still be read from
// the log.
func ParseAnnouncement(payload string) (Announcement, error) {
	if payload == lost {
		return Announcement{Lost: true}, nil
	}
	number, rest, announced := strings.Cut(payload, "\n")
	seq, err := strconv.ParseInt(number, 10, 64)
	if err != nil || seq <= 0 || strconv.FormatInt(seq, 10) != number {
		return Announcement{}, errors.New("announcement: want a number above 0 in the first line")
	}
	a := Announcement{Seq: seq}
	if !announced {
		return a, nil
	}
	fields := strings.SplitN(rest, "\n", 5)
	if len(fields) != 5 {
		return a, fmt.Errorf("announcement %d: %d lines, want 1 or 6", seq, len(fields)+1)
	}
	var user *int64
	if fields[2] != "" {
		id, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return a, fmt.Errorf("announcement %d: user id: want an integer of 64 bits", seq)
		}
		user = &id
	}
	n, err := Decode(fields[3], fields[0], fields[1], user, fields[4])
	if err != nil {
		return a, fmt.Errorf("announcement %d: %w", seq, err)
	}
	a.Notification = &n
	return a, nil
}

// Decode makes a notification of the columns of a log row, without timestamp and
// cursor. An entity id that is an int64 in canonical decimal form becomes an integer.
// The error does not tell the content.
func Decode(channel, entityType, entityID string, userID *int64, payload string) (wire.Notification, error) {
	n := wire.Notification{NotificationType: channel, EntityType: entityType, UserID: userID}
	if !isChannel(channel) {
		return wire.Notification{}, errors.New("channel: want 1 to 63 bytes without control characters")
	}
	if !wire.IsTypeName(entityType) {
		return wire.Notification{}, errors.New("entity type: want 1 to 63 characters of [A-Za-z0-9_.-]")
	}
	if id, err := strconv.ParseInt(entityID, 10, 64); err == nil && strconv.FormatInt(id, 10) == entityID {
		n.EntityID = wire.IntID(id)
	} else if n.EntityID, err = wire.StringID(entityID); err != nil {
		return wire.Notification{}, errors.New("entity id: want 1 to 128 characters of [A-Za-z0-9_.-]")
	}
	// PostgreSQL checks text against the database's encoding, but SQL_ASCII checks nothing.
	if !utf8.ValidString(payload) {
		return wire.Notification{}, errors.New("payload: want UTF-8")
	}
	compact, ok := wire.Compact(nil, []byte(payload)) // removes white space and nothing else: the writer's tokens stay
	if !ok {
		return wire.Notification{}, errors.New("payload: want JSON")
	}
	n.Payload = compact
	return n, nil
}

// isChannel reports whether a name can be a channel here: PostgreSQL takes 63 bytes,
// and control characters would make of one line several.
func isChannel(name string) bool {
	return name != "" && len(name) <= 63 && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f })
}
