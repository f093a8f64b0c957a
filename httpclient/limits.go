package httpclient

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// moment is the stage of an exchange and when the limit of that stage is over, in one word: the
// stage in its lowest bits, above them the time since the exchange began, in units of 4 ns. A time
// of 0 is no limit.
type moment int64

const stageBits = 2

func momentOf(at stage, until time.Duration) moment {
	return moment(int64(until)&^(1<<stageBits-1)) | moment(at)
}

func (m moment) stage() stage         { return stage(m & (1<<stageBits - 1)) }
func (m moment) until() time.Duration { return time.Duration(m &^ (1<<stageBits - 1)) }

// at returns where the exchange is.
func (x *exchange) at() stage { return moment(x.now.Load()).stage() }

// reach moves the exchange to a stage, unless it is beyond it, and sets the limit: 0 for none. now is
// not read without a limit.
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

// reached is a limit that is over. An empty stage is the wait for a connection.
type reached struct {
	stage Stage
	limit time.Duration
}

// late returns the limit of the exchange that is over at now, and else the next one; 0: there is none.
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

// apart is the least time between two looks at all exchanges, which bounds what they cost.
const apart = time.Millisecond

// limits ends the exchanges whose limit is over. One timer serves them all: most stages end long before
// their limits, so that it goes off once in the time of the shortest limit, not once for each request.
//
// A look sets due to 0 before it reads any exchange, and an exchange stores its limit before it reads
// due. So each limit is seen by a look, or sets the timer itself.
type limits struct {
	c   *Client
	due atomic.Int64 // a monotime.Time, when the timer goes off; 0: it is not set

	mu    sync.Mutex // guards the following
	timer *time.Timer
	over  bool
}

// arm sets the timer to a time, unless it is set to one before; 0 is never.
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
		l.timer = time.AfterFunc(wait, l.look)
	} else {
		l.timer.Reset(wait)
	}
}

// look is the function of the timer.
func (l *limits) look() {
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

// expire ends the exchange because of a limit.
func (x *exchange) expire(e *reached) {
	if x.expired.CompareAndSwap(nil, e) {
		x.cancel(&TimeoutError{Client: x.c.state.Name(), Stage: e.stage, Limit: e.limit})
	}
}

// stop ends all looks but one that is under way.
func (l *limits) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
