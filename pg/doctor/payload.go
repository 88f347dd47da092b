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
	var failing, losing, texts []string
	for _, t := range found.all {
		documents, text := t.unbounded()
		switch what := list(append(documents, text...)); {
		case len(documents)+len(text) == 0:
		case guarded(t.source):
		case forgiving(t.source):
			losing = append(losing, fmt.Sprintf("%s (%s)", t.name, what))
		case len(documents) > 0:
			failing = append(failing, fmt.Sprintf("%s (%s)", t.name, what))
		default:
			texts = append(texts, fmt.Sprintf("%s (%s)", t.name, what))
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
	if len(findings) == 0 {
		return ok("no payload of a trigger is seen to reach 8000 bytes")
	}
	return findings
}

// unbounded returns the columns of any size that get into a payload. A text counts
// as a document where the row is sent as a whole: then nobody chose it.
func (t *trigger) unbounded() (documents, texts []string) {
	whole, without := wholeRows(t.function.source)
	named := namedColumns(t.function.source)
	for _, c := range t.columns {
		sent := whole && !slices.Contains(without, c.name)
		if !c.unbounded || !sent && !slices.Contains(named, c.name) {
			continue
		}
		if c.document || sent {
			documents = append(documents, c.name)
		} else {
			texts = append(texts, c.name)
		}
	}
	return documents, texts
}

// checkPayloadEntity looks for payloads that name no entity: such notifications are
// skipped.
func checkPayloadEntity(ctx context.Context, p *patient) []Finding {
	found := p.notifiers(ctx)
	if found.err != nil {
		return unread("the triggers", found.err)
	}
	var missing []string
	for _, t := range found.all {
		if !t.listened(p.cfg.Channels) {
			continue
		}
		if lacks := t.lacks(); len(lacks) > 0 {
			missing = append(missing, fmt.Sprintf("%s (no %s)", t.name, strings.Join(lacks, ", no ")))
		}
	}
	if len(missing) > 0 {
		return warning("notifications without an entity are skipped: "+list(missing),
			"build the payload with json_build_object('entity_type', …, 'entity_id', NEW.id, …)")
	}
	return ok("payloads of triggers name an entity")
}

// lacks returns what of an entity is not to be found in a trigger's payload.
func (t *trigger) lacks() []string {
	whole, without := wholeRows(t.function.source)
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool {
			return mentions(t.source, name) ||
				whole && !slices.Contains(without, name) && slices.ContainsFunc(t.columns, func(c column) bool { return c.name == name })
		})
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
