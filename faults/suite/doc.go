// Package suite puts client libraries through faults, raw and managed, on the same real servers.
//
//	library ── way: raw │ managed ──▶ client ── traffic ──▶ Proxy ──▶ redis-server, postgres, mariadbd
//	                                    │                    ▲          ▲
//	                                    │                    └── fault ─┘
//	                                    ▼
//	                    outcome: calls failed, time lost, dials, what is left behind
//
// A scenario is a fault with the traffic that goes on meanwhile. In each round the ways take turns on
// one server, so that they meet the same conditions. At the end of a round of a managed pool the
// invariants of docs/invariants.md are checked.
//
//	make faults                        everything; writes docs/reliability.md
//	go test ./suite                    the same scenarios, shorter, managed pools only
//	go test ./suite -seed 7 -run ...   a run again, with its moments and pauses
//
// The package has tests only, and runs on Linux: it counts sockets by /proc.
package suite
