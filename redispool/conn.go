package redispool

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
	"github.com/poolkeeper/poolkeeper/internal/socket"
)

// purpose is what a connection was dialled for.
type purpose uint32

const (
	forPool         purpose = iota // go-redis' pool, or a PubSub that has not subscribed yet
	forSubscription                // a PubSub's own
	forCheck                       // the health check's own
	forTrial                       // the circuit breaker's own
	forInspection                  // an inspector's own
)

// checkoutState is how a connection was last handed out.
type checkoutState uint8

const (
	notCheckedOut checkoutState = iota // it was dialled for its first user
	checked
	unchecked // while the pool took an idle connection: see node.acquiringIdle
)

// conn is a connection as go-redis sees it: the native one, TLS included, with what the pool must
// know about it.
//
// Before go-redis hands out an idle connection it clears the deadlines and then asks for the raw
// connection, to look for a sign of death. That is the one moment at which a connection can be
// taken away from it without a caller noticing: a condemned one refuses the second question.
//
// A command touches its first fields. They fill a cache line, and all of them two, which no other
// connection shares.
type conn struct {
	net.Conn // outermost: *tls.Conn where there is TLS

	node     *node
	used     atomic.Int64    // a monotime.Time: when the last command was sent; 0 before the first
	heard    atomic.Int64    // used of the last command that was answered; 0 before the first
	raw      syscall.RawConn // of the transport below any TLS; blindConn if unknown. Kept, for each that is asked for is allocated
	closeFor atomic.Uint32   // a reason; stays until condemned
	secure   bool            // what comes out of raw is not what go-redis would read

	// Only the goroutine that has the connection from go-redis uses the following.
	clears    bool // the deadlines were cleared, and the raw connection is asked for next: a checkout
	fresh     bool // it has not been handed out yet after its login: see firstWords
	answering bool // there is an answer to a token to be read

	checkout checkoutState           // used as the above
	purpose  atomic.Uint32           // a purpose
	patient  atomic.Bool             // the command under way may take long: it blocks on the server
	gone     atomic.Bool             // closed
	lentTo   atomic.Pointer[session] // the session that has it, or had it when it was last heard of
	below    *socket.Peeker          // of raw, where there is TLS
	endpoint *endpoint               // by which it was opened
	born     monotime.Time           // when its dial began
	draw     float64                 // see eviction.Conn.Draw
	start    *opening
}

// opening is what matters of a connection until it has logged in, of a session and of a
// subscription.
type opening struct {
	serial   uint64                         // its number on the pool's books
	answer   []byte                         // to a token, not yet read
	room     [64]byte                       // of answer
	watch    *time.Timer                    // tells the breaker that there is no answer yet; nil: the connection is not a caller's
	until    monotime.Time                  // when the caller that it was dialled for has waited for AcquireTimeout; 0: no limit
	login    *login                         // of the handshake; nil: it is over, or none of the pool's affair
	by       atomic.Pointer[rotation.Login] // by which it has logged in, or is about to; nil: it is not known
	greeting atomic.Bool                    // the handshake may still be under way; counted by node.greeting
	id       atomic.Int64                   // CLIENT ID; 0: unknown
	holder   *holders.Entry                 // of a subscription; else nil
}

// end ends the watch.
func (o *opening) end() {
	if o.watch != nil {
		o.watch.Stop()
	}
}

// serials numbers the connections of all pools.
var serials atomic.Uint64 //nolint:gochecknoglobals // a counter

// newConn returns the conn of a dial that began at born.
func newConn(n *node, native net.Conn, p purpose, by *endpoint, born monotime.Time, start *opening) *conn {
	c := &conn{Conn: native, node: n, endpoint: by, born: born, draw: rand.Float64(), start: start, fresh: p == forPool}
	c.purpose.Store(uint32(p))
	start.serial = serials.Add(1)
	start.greeting.Store(c.fresh)
	transport := native
	if t, ok := native.(interface{ NetConn() net.Conn }); ok { // *tls.Conn
		transport, c.secure = t.NetConn(), true
	}
	c.raw = blindConn{}
	if open, ok := transport.(syscall.Conn); ok {
		if raw, err := open.SyscallConn(); err == nil {
			c.raw = raw
			if c.secure {
				c.below = socket.NewPeeker(raw)
			}
		}
	}
	return c
}

// SetWriteDeadline notes when the connection is used. go-redis sets it before each command, by the
// wall clock, which an operator may set: so the time of use is read from the monotonic clock and
// not computed from t. It grows with every command, however coarse the clock.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.used.Store(max(int64(monotime.Now()), c.used.Load()+1))
	return c.Conn.SetWriteDeadline(c.clamped(t))
}

// clamped is t, or the time that AcquireTimeout leaves for the login. Until the first answer a
// caller waits for the connection.
func (c *conn) clamped(t time.Time) time.Time {
	if c.heard.Load() != 0 || c.start.until == 0 {
		return t
	}
	if until := time.Now().Add(c.start.until.Sub(monotime.Now())); t.IsZero() || until.Before(t) {
		return until
	}
	return t
}

// SetReadDeadline tells an ordinary command from one that blocks on the server, which go-redis
// gives more time. t was computed a moment ago by the same clock that it is compared with.
func (c *conn) SetReadDeadline(t time.Time) error {
	limit := c.node.pool.cfg.ReadTimeout
	patient := limit == 0 || t.IsZero() || time.Until(t) > limit+time.Second
	if patient != c.patient.Load() {
		c.patient.Store(patient)
	}
	return c.Conn.SetReadDeadline(c.clamped(t))
}

// Read notes that the server has answered, what it has to say about itself, and that it does not.
func (c *conn) Read(b []byte) (int, error) {
	if c.answering {
		return c.answerToken(b), nil
	}
	l := c.start.login
	if l == nil {
		return c.read(b)
	}
	if l.failed != nil {
		return 0, l.failed
	}
	n, err := c.read(b)
	if n > 0 && l.answered(c, b[:n]) != nil {
		return 0, l.failed
	}
	return n, err
}

func (c *conn) read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && b[0] == '-' && c.mayLogIn() {
		hideLogin(b[:n])
	}
	if c.heard.Load() == 0 {
		err = c.opened(b[:n], err)
	}
	switch p := c.is(); {
	case n > 0:
		c.noteAnswer(p, b[:n])
	case err != nil && p == forPool:
		c.node.failed(c, err)
	}
	return n, err
}

// mayLogIn reports whether the answer may be that to a login. What callers read is not changed.
func (c *conn) mayLogIn() bool {
	p := c.is()
	return c.start.greeting.Load() || p != forPool && p != forSubscription
}

// noteAnswer notes an answer, or a part of one.
func (c *conn) noteAnswer(p purpose, answer []byte) {
	used := c.used.Load()
	switch {
	case p == forCheck:
		c.node.link.Saw(c.waited())
	case p == forPool && c.closeReason() != stays && c.heard.Load() != used && !c.isHeld():
		c.node.purges.within(firstPurge) // it is about to come back
	}
	c.heard.Store(used)
	if p == forPool && answer[0] == '-' {
		c.node.heardError(c, answer)
	}
}

// opened notes the first answer, or why there is none, and returns err as go-redis shall see it.
func (c *conn) opened(answer []byte, err error) error {
	if len(answer) > 0 {
		c.start.id.Store(idInHello(answer))
		c.start.end()
		c.node.link.Saw(c.waited())
		if p := c.is(); p == forPool || p == forSubscription {
			c.node.heardFirst(answer)
		}
		return err
	}
	if err == nil || c.gone.Load() {
		return err
	}
	c.start.end()
	c.node.dialFailed(c.is(), c.born, err)
	if until := c.start.until; until != 0 && monotime.Now() >= until && errors.Is(err, os.ErrDeadlineExceeded) {
		c.node.failed(c, err)
		c.node.noAnswer()
		return veil(c.node.gaveUpAfter(timeIsOver(c.node.pool.cfg.AcquireTimeout), monotime.Since(c.born)))
	}
	return err
}

// waited is the time since the last command was sent.
func (c *conn) waited() time.Duration {
	if used := c.used.Load(); used != 0 {
		return monotime.Since(monotime.Time(used))
	}
	return 0
}

// Write answers tokens itself, and notes that the connection has broken.
func (c *conn) Write(b []byte) (int, error) {
	if (len(b) == len(pingToken) || len(b) == len(multiToken)) && c.takeToken(b) {
		return len(b), nil
	}
	if c.fresh || c.checkout == unchecked {
		return c.writeFirst(b)
	}
	return c.write(b)
}

func (c *conn) write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		return n, nil
	}
	if c.heard.Load() == 0 {
		return n, c.opened(nil, err)
	}
	if c.is() == forPool {
		c.node.failed(c, err)
	}
	return n, err
}

// SetDeadline is called by go-redis only to clear the deadlines at checkout.
func (c *conn) SetDeadline(t time.Time) error {
	c.clears = t.IsZero()
	return c.Conn.SetDeadline(t)
}

// SyscallConn refuses a condemned connection at checkout. Otherwise it lets go-redis look at the
// socket as it would look at the native connection, with two exceptions. At checkout never below
// TLS, where it would try to read what it finds; we look ourselves. And at other times, when it
// looks for pushed data, not before the first answer: nothing is pushed by then, and the tickets
// that a TLS server begins with would have it wait for 50 ms, which every second dial of a raw
// client does.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	atCheckout := c.clears
	c.clears = false
	if !atCheckout {
		if c.heard.Load() == 0 {
			return blindConn{}, nil
		}
		return c.raw, nil
	}
	if s := c.lentTo.Load(); s != nil {
		c.lentTo.Store(nil)
		s.lost()
	}
	if c.fresh && c.heard.Load() != 0 {
		c.settle()
	}
	if c.node.acquiringIdle.Load() {
		c.checkout = unchecked
		return blindConn{}, nil
	}
	c.checkout = checked
	switch {
	case c.closeReason() != stays:
		return nil, errCondemned
	case c.secure && c.endedBelow():
		return nil, errEnded
	case c.secure:
		return blindConn{}, nil
	}
	return c.raw, nil
}

// endedBelow reports whether the peer of an idle connection has closed it. It looks at the bytes
// below TLS. A TLS close-notify precedes the close and is encrypted, so any unread byte counts as a
// close. A push would be an unread byte too, but the server sends none unless go-redis has asked
// for maintenance notifications. Session tickets arrive before the first answer.
func (c *conn) endedBelow() bool {
	if c.heard.Load() == 0 {
		return false
	}
	state, _ := c.below.Peek()
	return state == socket.Closed || state == socket.Unread && !c.node.pool.target.pushes()
}

// Close closes the connection and takes it off the books, the first time.
func (c *conn) Close() error {
	if c.gone.CompareAndSwap(false, true) {
		c.start.end()
		c.node.forget(c)
	}
	return c.closeNative()
}

// cut closes the socket even while a command uses it. It sends no TLS close-notify, which could
// block.
func (c *conn) cut() {
	if t, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		_ = t.NetConn().Close()
	}
	_ = c.Close()
}

// hasEnded reports whether the other side of an idle connection has hung up.
func (c *conn) hasEnded() bool {
	if c.secure {
		return c.endedBelow()
	}
	state, _ := socket.PeekRaw(c.raw)
	return state == socket.Closed
}

func (c *conn) is() purpose { return purpose(c.purpose.Load()) }

// isHeld reports whether the connection is a Conn's, which may keep it for long after an answer.
func (c *conn) isHeld() bool {
	s := c.lentTo.Load()
	return s != nil && s.kind == chainConn
}

// bornAt is born for package eviction.
func (c *conn) bornAt() time.Time { return c.node.pool.timeOf(c.born) }

// silentSince is when the connection was used last, or dialled if it never was.
func (c *conn) silentSince() time.Time {
	return c.node.pool.timeOf(max(monotime.Time(c.used.Load()), c.born))
}

// blindConn is a raw connection that shows nothing.
type blindConn struct{}

func (blindConn) Control(func(fd uintptr)) error    { return nil }
func (blindConn) Read(func(fd uintptr) bool) error  { return nil }
func (blindConn) Write(func(fd uintptr) bool) error { return nil }

// closeNative closes a connection that the Dialer has made.
func (c *conn) closeNative() error {
	return c.node.pool.events.Guarded("Close of a connection", c.Conn.Close)
}
