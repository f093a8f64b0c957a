// Package healthtrials holds the trials that a health library has to pass: one function each,
// written against a small adapter, so that the same function runs with poolkeeper's health and with
// its peers.
//
//	Trial ──Add, Start, Stop──▶ Subject ──adapter──▶ health, or a peer
//	  └───────HTTP requests────▶ Ready(), Live()
//
// A trial returns nil when the subject holds, and an error that says what it did instead; it never
// panics by itself and never fails a test, so that "this peer fails that trial" can be a test too.
// A peer that cannot do what a trial asks for returns errors.ErrUnsupported from the adapter, which
// fails the trial.
//
// Trials use only time.After and the clock, so they run in a testing/synctest bubble as well as in
// real time; there the longest takes some ten seconds. A subject that dies with a panicking check
// takes the process with it: run those in a process of their own.
//
// The package does not decide what a subject is worth, and knows no library.
package healthtrials
