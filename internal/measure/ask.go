package measure

import (
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// patience is how long one component may take to answer. Scrapers wait for 10 s.
const patience = time.Second

// ask calls the code of a component. It reports false if that panics, ends its goroutine, or does
// not return in time. Such a component is not asked again until it has returned.
func (s *Source) ask(name string, read func() numbers) (numbers, bool) {
	var got numbers
	if err := s.calls.Do(name, patience, func(func(string)) { got = read() }); err != nil {
		return numbers{}, false // a call that hangs may still write to got
	}
	return got, true
}

// numbers are what a component says about itself.
type numbers struct {
	pool     *poolkeeper.Stats
	server   *poolkeeper.ServerStats
	streams  *poolkeeper.StreamStats
	expiries []poolkeeper.Expiry
}

// reading returns what calls the optional interfaces of a component, and false if it has none.
func reading(c lifecycle.Component) (read func() numbers, offers bool) {
	pool, isPool := c.(lifecycle.StatsProvider)
	server, isServer := c.(lifecycle.ServerStatsProvider)
	streams, hasStreams := c.(lifecycle.StreamStatsProvider)
	expiries, expires := c.(lifecycle.ExpiryProvider)
	return func() (n numbers) {
		if isPool {
			s := pool.Stats()
			n.pool = &s
		}
		if isServer {
			s := server.Stats()
			n.server = &s
		}
		if hasStreams {
			s := streams.StreamStats()
			n.streams = &s
		}
		if expires {
			n.expiries = expiries.Expiries()
		}
		return n
	}, isPool || isServer || hasStreams || expires
}
