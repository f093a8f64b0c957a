// Package paired measures what a managed pool adds to the library below it.
//
// On a machine that does other work, two absolute times say little about each other. So both sides
// run in turns, in one process, against one server, and neighbours are compared:
//
//	 pair 1        pair 2        pair 3
//	raw managed │ managed raw │ raw managed │ …      each a batch of operations
//	     ╰─ ratio 1    ╰─ ratio 2    ╰─ ratio 3      ─▶ median, upper bound of its 95 % interval
//
//	paired.Run(b, 16, func() error { return raw.Get(ctx, "key").Err() }, func() error { return managed.Get(ctx, "key").Err() })
//
// It refuses to report times: they are the machine's, not the pool's.
package paired
