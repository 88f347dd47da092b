package main

// work is one thing to do and what to look at.
type work struct {
	name     string
	load     string // pushbench's flags
	limit    string // arguments of pushbench limit; "": there is none
	fresh    bool   // on a server that has done nothing before
	together bool   // the limit is measured at the same time, not after it
	tls      bool   // over HTTPS
	bare     bool   // the load is one of the limits
	rounds   int    // 0: as many as were asked for
	measures []measure
}

// measure is a figure and what it stands beside.
type measure struct {
	name   string
	unit   float64 // what of the report is one in the table
	figure func(report) float64
	limit  func(report) float64 // nil: there is none
	goal   float64              // for the figure, in the table's unit; without any goal, it is told only
	ratio  float64              // for figure / limit; 0: the goal is the figure's alone
	above  float64              // for figure - limit, in the table's unit; 0 likewise
	more   bool                 // more is better
}

// wanted reports whether there is a goal.
func (m measure) wanted() bool { return m.goal > 0 || m.ratio > 0 || m.above > 0 }

// The goals for rates are ratios: of the absolute figure to what the machine allowed
// when the goal was set.
const (
	goal1000 = 1.2 / 2.15
	goal100  = 1.6 / 3.0
)

func perSecond(r report) float64      { return r.PerSecond }
func cpu(r report) float64            { return r.CPU }
func p50(r report) float64            { return r.P50 }
func p99(r report) float64            { return r.P99 }
func rss(r report) float64            { return r.RSS }
func limitPerSecond(r report) float64 { return r.LimitPerSec }
func limitCPU(r report) float64       { return r.LimitCPU }

// table is what the project wants to be good at. Where a window would bound the rate it
// is so large that it does not: the limits have none.
func table() []work {
	broadcast := func(name, load, limit string, rate, ratio, most float64) work {
		return work{name: name, load: load, limit: limit, measures: []measure{
			{name: "deliveries, 1000/s", unit: 1e3, figure: perSecond, limit: limitPerSecond, goal: rate, ratio: ratio, more: true},
			{name: "CPU, s/million", unit: 1, figure: cpu, limit: limitCPU, goal: most},
		}}
	}
	unique := func(name, load, limit string, ratio float64) work {
		return work{name: name, load: "-filters unique -subs 10000 -publishers 4 " + load, limit: "notify -publishers 4 " + limit, measures: []measure{
			{name: "deliveries, 1000/s", unit: 1e3, figure: perSecond, limit: limitPerSecond, ratio: ratio, more: true},
			{name: "CPU, s/million", unit: 1, figure: cpu, limit: limitCPU, goal: 20},
		}}
	}
	latency := func(name, load string, goal50, above50, goal99 float64) work {
		return work{name: name, load: load, limit: "notify -rate 200 -messages 1000", measures: []measure{
			{name: "p50, ms", unit: 1e3, figure: p50, limit: p50, goal: goal50, above: above50},
			{name: "p99, ms", unit: 1e3, figure: p99, limit: p99, goal: goal99},
		}}
	}
	idle := func(name, transport string, tls bool) work {
		m := measure{name: "memory each, kB", unit: 1e3, figure: rss, goal: 10}
		if tls {
			m.goal = 0 // to be told
		}
		return work{name: name, load: "-insecure -subs 10000 -messages 0 -settle 10s -transport " + transport, fresh: true, tls: tls, measures: []measure{m}}
	}
	const (
		fanout1000 = "fanout -subs 1000 -messages 4000 -batch 16 -mode writev"
		fanout100  = "fanout -subs 100 -messages 20000 -batch 16 -mode writev"
	)
	relay := func(name, flags string) work {
		return work{name: name, load: "relay -subs 10000 -publishers 4 " + flags, limit: "notify -publishers 4 " + flags, bare: true, measures: []measure{
			{name: "deliveries, 1000/s", unit: 1e3, figure: limitPerSecond, limit: limitPerSecond, more: true},
			{name: "CPU, s/million", unit: 1, figure: limitCPU, limit: limitCPU},
		}}
	}
	// The limit has fewer sockets: after 19,000 there are not enough ports left for as many.
	crowd := func(name, load string, goal float64) work {
		return work{name: name, load: "-subs 19000 -dialers 64 " + load, limit: "fanout -subs 8000 -messages 20 -writers 2", measures: []measure{
			{name: "p99, ms", unit: 1e3, figure: p99, limit: func(r report) float64 { return 19000 / r.LimitPerSec * 1e6 }, goal: goal},
		}}
	}
	return []work{
		broadcast("1,000 x 2,000, WebSocket", "-transport ws -subs 1000 -messages 2000 -publishers 4", fanout1000, 1200, goal1000, 1),
		broadcast("1,000 x 2,000, SSE", "-transport sse -subs 1000 -messages 2000 -publishers 4", fanout1000, 1200, goal1000, 1),
		broadcast("100 x 20,000, WebSocket", "-transport ws -subs 100 -messages 20000 -publishers 4 -window 256", fanout100, 1600, goal100, .8),
		broadcast("100 x 20,000, SSE", "-transport sse -subs 100 -messages 20000 -publishers 4 -window 256", fanout100, 1600, goal100, .8),
		broadcast("100 x 20,000, WebSocket, 16 a transaction", "-transport ws -subs 100 -messages 20000 -publishers 4 -batch 16 -window 256", fanout100, 1600, goal100, .8),
		broadcast("100 x 20,000, SSE, 16 a transaction", "-transport sse -subs 100 -messages 20000 -publishers 4 -batch 16 -window 256", fanout100, 1600, goal100, .8),
		unique("unique, 10,000 subscribers", "-messages 80000 -window 512", "-messages 80000", .95),
		unique("unique, 16 a transaction", "-messages 300000 -batch 16 -window 300000", "-messages 300000 -batch 16", .7),
		unique("unique, 1,000 a transaction", "-messages 600000 -batch 1000 -window 600000", "-messages 600000 -batch 1000", .7),
		relay("unique, bare relay", "-messages 40000"),
		relay("unique, bare relay, 16 a transaction", "-messages 300000 -batch 16"),
		relay("unique, bare relay, 1,000 a transaction", "-messages 600000 -batch 1000"),
		latency("unique, 2,000/s", "-filters unique -subs 10000 -messages 10000 -rate 2000 -publishers 4", 0, .15, 1.2),
		latency("100 subscribers, 100/s", "-subs 100 -messages 500 -rate 100", .8, 0, 1.6),
		idle("10,000 idle, WebSocket", "ws", false),
		idle("10,000 idle, SSE", "sse", false),
		idle("10,000 idle, WebSocket, TLS", "ws", true),
		idle("10,000 idle, SSE, TLS", "sse", true),
		crowd("19,000 connections, one to all", "-messages 1", 150),
		crowd("19,000 connections, ten to all", "-messages 10 -rate 1", 0), // a second apart; to be told
	}
}
