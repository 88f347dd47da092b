package main

// oneCore has server and limits use one core each. Then the server gets all of a
// transaction before it begins to write: the number of writes is the same on every
// machine, however many cores it has and whatever else they do.
func oneCore() []string { return []string{"GOMAXPROCS=1"} }

// gate is what the short form compares. Rates and latencies move with what else the
// machine does; CPU time for a delivery does, too, but moves alike for server and limit
// when both
//   - work at the same time, at a pace that leaves them alone most of the time,
//   - on sockets whose reader sleeps meanwhile: waking it costs as much as a write, or
//     nothing when it happens to be awake.
//
// Memory has no limit to stand beside, and needs none.
func gate() []work {
	broadcast := func(name, transport string) work {
		return work{
			name: name, together: true, rounds: 5,
			load:     "-transport " + transport + " -subs 500 -messages 1200 -batch 16 -rate 800 -nap 20ms -settle 500ms",
			limit:    "fanout -subs 500 -messages 1200 -batch 16 -rate 800 -nap 20ms -size 540 -mode writev",
			measures: []measure{{name: "CPU, s/million", unit: 1, figure: cpu, limit: limitCPU}},
		}
	}
	idle := func(name, transport string) work {
		return work{
			name: name, fresh: true, rounds: 1,
			load:     "-transport " + transport + " -subs 5000 -messages 0 -settle 2s",
			measures: []measure{{name: "memory each, kB", unit: 1e3, figure: rss}},
		}
	}
	return []work{
		broadcast("broadcast, WebSocket", "ws"),
		broadcast("broadcast, SSE", "sse"),
		{
			name: "one match each", together: true, rounds: 5,
			load:     "-filters unique -subs 2000 -messages 12000 -batch 16 -rate 8000 -nap 20ms -settle 500ms",
			limit:    "relay -subs 2000 -messages 12000 -batch 16 -rate 8000 -nap 20ms -size 540",
			measures: []measure{{name: "CPU, s/million", unit: 1, figure: cpu, limit: limitCPU}},
		},
		idle("idle, WebSocket", "ws"),
		idle("idle, SSE", "sse"),
	}
}
