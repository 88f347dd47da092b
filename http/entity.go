package http

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/go-chi/chi/v5"

	"attune/auth"
	"attune/wire"
)

// Entities reads rows of watched tables.
type Entities interface {
	// Get returns a row, with a nil Payload where there is none. Where no row can be
	// looked for the error is a *wire.Error that says why.
	Get(ctx context.Context, entityType, id string) (wire.Entity, error)
	// GetMany returns rows of one type by their ids, each as Get does, in one query. For
	// one that is not in the map Get is to be asked. Its errors are those of Get.
	GetMany(ctx context.Context, entityType string, ids []string) (map[string]wire.Entity, error)
	EntityLister
}

// getEntity serves GET /entities/{type}/{id}. A cursor comes with every answer for
// which the database was asked, also with the one that there is no such row: whoever
// waits for it follows from there.
func (s *Server) getEntity(w http.ResponseWriter, r *http.Request) {
	entityType, id, err := parseEntity(chi.URLParam(r, "type"), chi.URLParam(r, "id"))
	if err != nil {
		s.problem(w, r, err)
		return
	}
	if s.Entities == nil {
		s.problem(w, r, errNoLog())
		return
	}
	about := auth.Subject{Filter: wire.EntityFilter(entityType, id)}
	if err := may(r, auth.ReadEntity, about); err != nil {
		s.problem(w, r, err)
		return
	}
	seen, err := s.readEntity(r.Context(), entityType, id, wantsNew(r))
	if err != nil {
		s.problem(w, r, err)
		return
	}
	// Whose a row is, it alone says: where it is another's, there is none.
	about.Owner = seen.owner
	if seen.body == nil || may(r, auth.ReadEntity, about) != nil {
		w.Header().Set(cursorHeader, seen.cursor.String())
		s.problem(w, r, &wire.Error{Code: wire.CodeNotFound, Message: fmt.Sprintf("%s %s was not found", entityType, id)})
		return
	}
	s.answerUnless(w, r, seen.etag, seen.cursor, seen.body)
}

// readEntity reads a row; there is no body where there is none.
func (s *Server) readEntity(ctx context.Context, entityType, id string, anew bool) (*reading, error) {
	return s.readings.get(ctx, rowName{entityType: entityType, id: id}, anew, func(ctx context.Context, r *sharedReading) error {
		entity, err := s.loadEntity(ctx, entityType, id, r.round)
		if err == nil && entity.Payload != nil {
			r.owner = entity.UserID
			r.set(entity)
		}
		return err
	})
}

// loadEntity reads a row, in one query with all others of its table in its round.
func (s *Server) loadEntity(ctx context.Context, entityType, id string, r *round) (wire.Entity, error) {
	if r != nil {
		entity, ok, err := r.entities[entityType].get(id, func(ids []string) (map[string]wire.Entity, error) {
			return s.Entities.GetMany(ctx, entityType, ids)
		})
		if ok || err != nil {
			return entity, err
		}
	}
	return s.Entities.Get(ctx, entityType, id)
}

// parseEntity parses the type and the id in a path, which may be percent-encoded.
func parseEntity(typeText, idText string) (entityType, id string, err error) {
	entityType, errType := url.PathUnescape(typeText)
	id, errID := url.PathUnescape(idText)
	if errType != nil || !wire.IsTypeName(entityType) {
		return "", "", invalid("entity type %.70q: want 1 to 63 characters of [A-Za-z0-9_.-]", typeText)
	}
	if _, err := wire.StringID(id); errID != nil || err != nil {
		return "", "", invalid("entity id %.140q: want 1 to 128 characters of [A-Za-z0-9_.-]", idText)
	}
	return entityType, id, nil
}
