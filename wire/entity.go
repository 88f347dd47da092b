package wire

import (
	"encoding/json"
	"strconv"
)

// Entity is a row of a watched table as it is now.
type Entity struct {
	EntityType string   `json:"entity_type"`
	EntityID   EntityID `json:"entity_id"`
	// UserID restricts who may see the row; nil: everybody.
	UserID *int64 `json:"user_id"`
	// Payload is what the row's notifications carry, without what belongs to a change
	// alone (op, old_<column>). null where there is no such row.
	Payload json.RawMessage `json:"payload"`
}

// EntityList is the rows of a watched table with the highest keys, those first. More
// says that there are others.
type EntityList struct {
	Items []Entity `json:"items"`
	More  bool     `json:"more"`
}

// EntityTypeList is what may be asked for as Entity.
type EntityTypeList struct {
	Items []EntityType `json:"items"`
}

// EntityType is what rows of one watched table are called.
type EntityType struct {
	EntityType string `json:"entity_type"`
}

// TextID returns the EntityID that filters write so: an integer where the text is an
// int64 in canonical decimal form, else a string.
func TextID(text string) (EntityID, error) {
	if id, err := strconv.ParseInt(text, 10, 64); err == nil && strconv.FormatInt(id, 10) == text {
		return IntID(id), nil
	}
	return StringID(text)
}
