package measure

import (
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// patience is how long one component may take to answer. Scrapers wait for 10 s.
const patience = time.Second

// ask calls the code of a component. It reports false if that panics, ends its goroutine, or does
// not return in time. Such a component is not asked again until it has returned.
func (s *Source) ask(name string, read func() numbers) (numbers, bool) {
	if s.isHung(name) {
		return numbers{}, false
	}
	var got numbers
	err := guard.ErrExited
	done := make(chan struct{})
	// Owner: ask, which waits for it. It ends with the component's code. For one that hangs nobody
	// can wait, so there is one at most, unless scrapes begin at once.
	go func() {
		defer close(done)
		err = guard.Catch(func() { got = read() })
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		return got, err == nil
	case <-timer.C:
		s.setHung(name, done)
		return numbers{}, false
	}
}

// isHung reports whether an earlier call of the component has not returned.
func (s *Source) isHung(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	done, known := s.hung[name]
	if !known {
		return false
	}
	select {
	case <-done:
		delete(s.hung, name)
		return false
	default:
		return true
	}
}

func (s *Source) setHung(name string, done <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hung == nil {
		s.hung = make(map[string]<-chan struct{})
	}
	s.hung[name] = done
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
