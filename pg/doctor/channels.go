package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// checkChannels compares the channels that are notified with those that are listened
// to.
func checkChannels(ctx context.Context, p *patient) []Finding {
	found := p.notifiers(ctx)
	if found.err != nil {
		return unread("the triggers", found.err)
	}
	var notified []string
	elsewhere := false
	for _, t := range found.all {
		if t.enabled {
			notified = append(notified, t.channels...)
			elsewhere = elsewhere || t.elsewhere
		}
	}
	slices.Sort(notified)
	notified = slices.Compact(notified)
	var unheard, silent []string
	for _, c := range notified {
		if !slices.Contains(p.cfg.Channels, c) {
			unheard = append(unheard, c)
		}
	}
	for _, c := range p.cfg.Channels {
		if !slices.Contains(notified, c) {
			silent = append(silent, c)
		}
	}
	var findings []Finding
	if len(silent) == len(p.cfg.Channels) && !elsewhere && !p.logged(ctx) {
		const nobody = "no trigger notifies any of the channels that attune listens to"
		if len(unheard) > 0 {
			return warning(fmt.Sprintf("%s, but others: %s", nobody, list(unheard)), "ATTUNE_CHANNELS="+strings.Join(unheard, ","))
		}
		return warning(nobody, "add triggers that call pg_notify, or let attune watch tables (attune db watch); if programs notify, all is well")
	}
	if len(unheard) > 0 {
		findings = append(findings, note("triggers notify channels that attune does not listen to: "+list(unheard), "add to ATTUNE_CHANNELS those that subscribers should see")...)
	}
	if len(silent) > 0 {
		findings = append(findings, note(fmt.Sprintf("of the channels that attune listens to, triggers are not seen to notify %d: %s", len(silent), list(silent)),
			"nothing, if programs notify them; else correct their names in ATTUNE_CHANNELS")...)
	}
	if len(findings) == 0 {
		return ok("every channel that triggers notify is listened to, and the other way round")
	}
	return findings
}

// logged reports whether there is a log, which needs no channel.
func (p *patient) logged(ctx context.Context) bool {
	var installed bool
	err := p.pool.QueryRow(ctx, "SELECT to_regclass('attune_live.notification_log') IS NOT NULL").Scan(&installed)
	return err == nil && installed
}
