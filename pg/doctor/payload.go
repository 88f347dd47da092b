package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// checkPayloadSize looks for payloads that can reach 8000 bytes: there pg_notify
// fails, and with it the statement that fired the trigger.
func checkPayloadSize(ctx context.Context, p *patient) []Finding {
	found := p.notifiers(ctx)
	if found.err != nil {
		return unread("the triggers", found.err)
	}
	var failing, losing, texts, unclear []string
	for _, t := range found.all {
		documents, text, doubts := t.unbounded()
		switch what := list(append(documents, text...)); {
		case what != "" && forgiving(t.source):
			losing = append(losing, fmt.Sprintf("%s (%s)", t.name, what))
		case len(documents) > 0:
			failing = append(failing, fmt.Sprintf("%s (%s)", t.name, what))
		case len(text) > 0:
			texts = append(texts, fmt.Sprintf("%s (%s)", t.name, what))
		case len(doubts) > 0:
			unclear = append(unclear, fmt.Sprintf("%s (%s)", t.name, list(doubts)))
		}
	}
	const measure = "send keys rather than columns of any size, or measure: IF octet_length(payload) < 8000 THEN … ELSE send the key alone"
	var findings []Finding
	if len(failing) > 0 {
		findings = append(findings, warning("payloads can reach 8000 bytes, and then the write itself fails (SQLSTATE 22023): "+list(failing), measure)...)
	}
	if len(losing) > 0 {
		findings = append(findings, warning("payloads can reach 8000 bytes, and then the notification is lost without a gap: "+list(losing), measure)...)
	}
	if len(texts) > 0 {
		findings = append(findings, note("a very long text in a payload makes the write fail at 8000 bytes (SQLSTATE 22023): "+list(texts), measure)...)
	}
	if len(unclear) > 0 {
		findings = append(findings, note("payloads are not proved to stay below 8000 bytes, because of what cannot be read from the source: "+list(unclear), measure)...)
	}
	if len(findings) == 0 {
		return ok("no payload of a trigger is seen to reach 8000 bytes")
	}
	return findings
}

// checkPayloadEntity looks for payloads that name no entity: such notifications are
// skipped.
func checkPayloadEntity(ctx context.Context, p *patient) []Finding {
	found := p.notifiers(ctx)
	if found.err != nil {
		return unread("the triggers", found.err)
	}
	var missing, unclear []string
	for _, t := range found.all {
		if !t.listened(p.cfg.Channels) {
			continue
		}
		lacks := t.lacks()
		switch what := fmt.Sprintf("%s (no %s)", t.name, strings.Join(lacks, ", no ")); {
		case t.sent.list && !t.sent.object:
			missing = append(missing, t.name+" (an array, no object)")
		case len(lacks) > 0 && t.sent.opaque:
			unclear = append(unclear, what)
		case len(lacks) > 0:
			missing = append(missing, what)
		}
	}
	const build = "build the payload with json_build_object('entity_type', …, 'entity_id', NEW.id, …)"
	var findings []Finding
	if len(missing) > 0 {
		findings = append(findings, warning("notifications without an entity are skipped: "+list(missing), build)...)
	}
	if len(unclear) > 0 {
		findings = append(findings, note("payloads may name an entity, but are not seen to, and without one they are skipped: "+list(unclear), build)...)
	}
	if len(findings) == 0 {
		return ok("payloads of triggers name an entity")
	}
	return findings
}

// lacks returns what of an entity is not to be found in a trigger's payload.
func (t *trigger) lacks() []string {
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return mentions(t.source, name) || t.sent.columns[name].whole })
	}
	var lacks []string
	if !has("entity_type") {
		lacks = append(lacks, "entity_type")
	}
	if !has("entity_id", "entity") {
		lacks = append(lacks, "entity_id")
	}
	return lacks
}

// checkSearchPath looks for functions that take their tables and functions from
// whatever search path the writer has.
func checkSearchPath(ctx context.Context, p *patient) []Finding {
	found := p.notifiers(ctx)
	if found.err != nil {
		return unread("the triggers", found.err)
	}
	var loose []string
	for _, t := range found.all {
		if !t.pinned {
			loose = append(loose, t.function.name)
		}
	}
	slices.Sort(loose)
	if loose = slices.Compact(loose); len(loose) > 0 {
		return note("functions of triggers without a search_path of their own: a writer with another one may make them fail or do something else: "+list(loose),
			"ALTER FUNCTION … SET search_path = …, where all that they name is found")
	}
	return ok("functions of triggers that notify have a search_path of their own")
}
