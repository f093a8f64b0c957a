package httpclient

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// moment packs the stage of an exchange and the time at which the stage's limit expires. The stage
// is in the lowest bits. Above them is the time since the exchange began, in units of 4 ns. A time of
// 0 is no limit.
type moment int64

const stageBits = 2

func momentOf(at stage, until time.Duration) moment {
	return moment(int64(until)&^(1<<stageBits-1)) | moment(at)
}

func (m moment) stage() stage         { return stage(m & (1<<stageBits - 1)) }
func (m moment) until() time.Duration { return time.Duration(m &^ (1<<stageBits - 1)) }

// at returns the stage of the exchange.
func (x *exchange) at() stage { return moment(x.now.Load()).stage() }

// reach moves the exchange to a stage, unless it is already beyond it, and sets the stage's limit. A
// limit of 0 is none; now is then not used.
func (x *exchange) reach(to stage, now monotime.Time, limit time.Duration) {
	var until monotime.Time
	next := momentOf(to, 0)
	if limit > 0 {
		until = now.Add(limit)
		next = momentOf(to, until.Sub(x.mono))
	}
	for {
		was := x.now.Load()
		if moment(was).stage() > to {
			return
		}
		if x.now.CompareAndSwap(was, int64(next)) {
			break
		}
	}
	x.c.limits.arm(until)
}

// reached is a limit that has expired. An empty stage is the wait for a connection.
type reached struct {
	stage Stage
	limit time.Duration
}

// late returns the limit that has expired at now. Otherwise it returns when the next one expires, or
// 0.
func (x *exchange) late(now monotime.Time) (over *reached, next monotime.Time) {
	if x.last != 0 && now >= x.last {
		return &reached{StageRequest, x.cfg.RequestTimeout}, 0
	}
	next = x.last
	was := x.now.Load()
	m := moment(was)
	if m.until() == 0 {
		return nil, next
	}
	until := x.mono.Add(m.until())
	switch {
	case now < until:
		if next == 0 || until < next {
			next = until
		}
		return nil, next
	case !x.now.CompareAndSwap(was, int64(momentOf(m.stage(), 0))):
		return nil, now // the stage has ended meanwhile
	}
	switch m.stage() {
	case stageHeader:
		return &reached{StageHeader, x.cfg.HeaderTimeout}, 0
	case stageBody:
		return &reached{StageBody, x.cfg.BodyTimeout}, 0
	case stageAcquire, stageWrite:
	}
	return &reached{"", x.cfg.AcquireTimeout}, 0
}

// apart is the least time between two scans of all exchanges. It bounds their cost.
const apart = time.Millisecond

// limits ends the exchanges whose limit has expired. One timer serves all of them. Most stages end long
// before their limits, so the timer fires once per shortest limit, not once per request.
//
// A scan sets due to 0 before it reads any exchange. An exchange stores its limit before it reads due.
// So a scan sees each limit, or the exchange sets the timer itself.
type limits struct {
	c   *Client
	due atomic.Int64 // a monotime.Time, when the timer goes off; 0: it is not set

	mu    sync.Mutex // guards the following
	timer *time.Timer
	over  bool
}

// arm sets the timer to at, unless it is set to an earlier time. An at of 0 is never.
func (l *limits) arm(at monotime.Time) {
	if due := l.due.Load(); at == 0 || due != 0 && monotime.Time(due) <= at {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if due := l.due.Load(); l.over || due != 0 && monotime.Time(due) <= at {
		return
	}
	l.due.Store(int64(at))
	if wait := at.Sub(monotime.Now()); l.timer == nil {
		l.timer = time.AfterFunc(wait, l.scan)
	} else {
		l.timer.Reset(wait)
	}
}

// scan ends the exchanges whose limit has expired and sets the timer to the next limit.
func (l *limits) scan() {
	l.mu.Lock()
	l.due.Store(0)
	l.mu.Unlock()
	now := monotime.Now()
	var next monotime.Time
	for _, x := range l.c.exchanges() {
		over, at := x.late(now)
		if over != nil {
			x.expire(over)
		} else if at != 0 && (next == 0 || at < next) {
			next = at
		}
	}
	if next != 0 {
		l.arm(max(next, now.Add(apart)))
	}
}

// expire ends the exchange with a TimeoutError for the limit.
func (x *exchange) expire(e *reached) {
	if x.expired.CompareAndSwap(nil, e) {
		x.cancel(&TimeoutError{Client: x.c.state.Name(), Stage: e.stage, Limit: e.limit})
	}
}

// stop prevents further scans. It does not wait for a running one.
func (l *limits) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
