// Package isolation decides which of several servers of one kind are in rotation, by how well each
// serves. It is the policy of poolkeeper.Isolation.
//
//	Observe(server, sample) ──▶ the samples of the last After/2 ──▶ score
//	Judge(servers)          ──▶ serving ⇄ isolated ⇄ trial, and the changes
//	Rotation(servers)       ──▶ the servers to take in turn
//
// It does no I/O, starts no goroutine and has no clock. The pool polls, measures, calls Judge under
// its own mutex and stores what Rotation returns.
//
// It does not decide whether a server may serve at all. The pool says which servers are fit; a server
// that is down, behind or draining is not. Isolation chooses among the fit ones.
package isolation
