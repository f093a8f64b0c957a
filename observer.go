package poolkeeper

// Observer is told what live traffic saw. A pool calls it for outcomes that say something about the
// server: nil after success, the error after a connection-level failure (refused, reset, timed
// out). An error that only says something about one statement (a syntax error, a missing key) is
// not reported.
//
// Observe is called on the data path. It is safe for concurrent use, does not block and does not
// allocate for nil.
type Observer interface {
	Observe(err error)
}
