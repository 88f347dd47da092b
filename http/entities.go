package http

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"attune/auth"
	"attune/wire"
)

// EntityLister lists what Entities reads one by one.
type EntityLister interface {
	// Types returns the entity types of the tables that are watched, in order.
	Types(ctx context.Context) ([]string, error)
	// List returns the rows with the highest keys, at most limit, of those that are
	// visibleTo's or nobody's; nil: of all. Its errors are those of Entities.Get.
	List(ctx context.Context, entityType string, limit int, visibleTo *int64) (wire.EntityList, error)
}

// listEntityTypes serves GET /entities.
func (s *Server) listEntityTypes(w http.ResponseWriter, r *http.Request) {
	list := wire.EntityTypeList{Items: []wire.EntityType{}}
	if s.Entities != nil {
		types, err := s.Entities.Types(r.Context())
		if err != nil {
			s.problem(w, r, err)
			return
		}
		for _, name := range types {
			if may(r, auth.ReadEntity, onEntities(name)) == nil {
				list.Items = append(list.Items, wire.EntityType{EntityType: name})
			}
		}
	}
	writeJSON(w, http.StatusOK, encode(list))
}

// listEntities serves GET /entities/{type}.
func (s *Server) listEntities(w http.ResponseWriter, r *http.Request) {
	entityType, _, err := parseEntity(chi.URLParam(r, "type"), "any")
	if err != nil {
		s.problem(w, r, err)
		return
	}
	q, err := query(r)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	limit, err := parseLimit(q)
	if err != nil {
		s.problem(w, r, err)
		return
	}
	if s.Entities == nil {
		s.problem(w, r, errNoLog())
		return
	}
	if err := may(r, auth.ReadEntity, onEntities(entityType)); err != nil {
		s.problem(w, r, err)
		return
	}
	cursor := s.Hub.Cursor()
	list, err := s.Entities.List(r.Context(), entityType, limit, identityOf(r).VisibleTo())
	if err != nil {
		s.problem(w, r, err)
		return
	}
	if list.Items == nil {
		list.Items = []wire.Entity{}
	}
	s.answer(w, r, http.StatusOK, cursor, encode(list))
}

// onEntities is what an action on the rows of a watched table is about.
func onEntities(entityType string) auth.Subject {
	return auth.Subject{Filter: mustFilter("entity_type:" + entityType)}
}

// errNoLog says why there are no watched tables.
func errNoLog() *wire.Error {
	return &wire.Error{
		Code:    wire.CodeNotFound,
		Message: "this server follows no notification log, so it knows no watched tables: attune db install, attune db watch, and start it again",
	}
}
