// Package poolkeeper holds the words that every floor of the project shares: what a pool reports
// about itself ([Stats], [Holder]), how live traffic tells a health check what it saw ([Observer]),
// the errors a caller meets while a pool goes away ([ErrDraining], [ErrClosed]), and what is
// configured alike in all of them ([StartPolicy], [TLSFiles]).
//
// The package has no behaviour. The work is done one floor down and up:
//
//	lifecycle            the Registry: starts, watches and stops components in dependency order
//	redispool, sqlpool   pools of native handles: redis.UniversalClient, *pgxpool.Pool, *sql.DB
//	health               check loops and the /livez, /readyz and /startupz handlers
//	eviction             the decision which idle connections to close, and when
//
// Start with [github.com/poolkeeper/poolkeeper/lifecycle].
package poolkeeper
