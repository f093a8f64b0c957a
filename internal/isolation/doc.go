// Package isolation decides which of several servers of one kind are in rotation, by how well each
// serves. It is the policy of poolkeeper.Isolation.
//
//	Observe(server, sample) ──▶ the samples of the last After/2 ──▶ score
//	Judge(servers)          ──▶ serving ⇄ isolated ⇄ trial, and the changes
//	Rotation(servers)       ──▶ those to take in turn
//
// It does no I/O, starts no goroutine and has no clock: a pool polls, measures, calls Judge under its
// own mutex and prepares what Rotation returns.
//
// It does not decide whether a server may serve at all. A server that is down, behind or draining is
// not fit, says the pool; isolation chooses among those that are fit.
package isolation
