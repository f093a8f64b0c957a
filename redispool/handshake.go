package redispool

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/holders"
	"github.com/poolkeeper/poolkeeper/internal/rotation"
)

// defaultUser is the one whom a password alone logs in.
const defaultUser = "default"

// login is the login of one connection. go-redis logs in by the client's options, which are the
// user's and stay as New was given them. Where another login is in effect (Config.Credentials, a
// Reload, a file that has changed) the connection sends that one in place of the options'. A
// handshake is the first thing written on a connection, so this holds for the pool's client and for
// all that shares its connections.
type login struct {
	shown   bool           // the login of the options is the one in effect
	by      rotation.Login // what is in effect otherwise
	err     error          // why that is not known
	theirs  rotation.Login // the login of the options, as HELLO has it
	state   loginState
	failed  error  // why AUTH failed: go-redis may read once more before it looks at an error
	written []byte // a command that is not complete
}

// loginState is how far a login is.
type loginState uint8

const (
	beforeHello  loginState = iota
	helloSent               // in the words of by
	helloRefused            // go-redis may send AUTH
	loggedIn
)

// newLogin returns the login of a connection opened by a, or nil if the pool leaves it to go-redis.
func (p *Pool) newLogin(a *endpoint) *login {
	if a.target.opts.StreamingCredentialsProvider != nil {
		return nil
	}
	return &login{shown: a.shown}
}

// resolve asks for the login in effect.
func (l *login) resolve(ctx context.Context, c *conn) {
	if l == nil || l.shown {
		return
	}
	p := c.node.pool
	user, password, err := p.ask(ctx, c.endpoint)
	l.by, l.err = loginOf(user, password), err
	if err == nil {
		l.note(c, l.by)
	}
}

// note says by which login the connection logs in.
func (l *login) note(c *conn, by rotation.Login) {
	c.start.by.Store(&by)
	c.node.pool.noteLogin(c.endpoint, by)
}

// instead returns what to send in place of b. Nothing: b is not complete, or is answered already.
func (l *login) instead(c *conn, b []byte) ([]byte, error) {
	if l.state == loggedIn {
		return b, nil
	}
	if l.written != nil {
		b = append(l.written, b...)
		l.written = nil
	}
	words, rest, ok := parsed(b)
	if !ok {
		l.written = bytes.Clone(b)
		return nil, nil
	}
	if len(rest) > 0 || len(words) < 2 {
		l.end(c)
		return b, nil
	}
	switch name := strings.ToLower(words[0]); {
	case l.state == beforeHello && name == "hello":
		return l.hello(c, words, b)
	case l.state == helloRefused && name == "auth":
		l.end(c)
		if l.by.Password == "" {
			c.start.answer, c.answering = []byte("+OK\r\n"), true
			return nil, nil
		}
		return authBy(l.by), nil
	}
	l.end(c)
	return b, nil
}

// hello returns HELLO with the login in effect.
func (l *login) hello(c *conn, words []string, b []byte) ([]byte, error) {
	theirs, others := loginIn(words)
	l.theirs = theirs
	switch {
	case l.shown:
		l.note(c, theirs)
		l.end(c)
		return b, nil
	case l.err != nil:
		return nil, veil(fmt.Errorf("failed to resolve credentials: %w", l.err))
	case l.by == theirs:
		l.end(c)
		return b, nil
	}
	l.state = helloSent
	out := words[:2:2]
	if l.by.Password != "" {
		out = append(out, "auth", l.by.User, l.by.Password)
	}
	return wire(append(out, others...)...), nil
}

// answered looks at an answer of the server. To a server that refuses HELLO go-redis sends AUTH,
// but only if the options have a password. So if only the login in effect has one, the connection
// sends AUTH itself.
func (l *login) answered(c *conn, answer []byte) error {
	if l.state != helloSent {
		return nil
	}
	if answer[0] != '-' {
		l.end(c)
		return nil
	}
	l.state = helloRefused
	if l.theirs.Password != "" {
		return nil
	}
	if l.by.Password != "" {
		l.failed = l.auth(c, answer)
	}
	if l.failed == nil {
		l.end(c)
	}
	return l.failed
}

// auth logs in by AUTH. A server that is not ready says so to the next command as well, and
// go-redis knows what to do then.
func (l *login) auth(c *conn, refusal []byte) error {
	b := make([]byte, 256)
	for last := refusal; !bytes.HasSuffix(last, []byte("\n")); last = c.start.answer { // go-redis reads the rest of it later
		n, err := c.Conn.Read(b)
		if err != nil {
			return err
		}
		c.start.answer, c.answering = append(c.start.answer, b[:n]...), true
	}
	if _, err := c.Conn.Write(authBy(l.by)); err != nil {
		return err
	}
	var answer []byte
	for !bytes.Contains(answer, []byte("\r\n")) {
		n, err := c.Conn.Read(b)
		if err != nil {
			return err
		}
		answer = append(answer, b[:n]...)
	}
	hideLogin(answer)
	text, _, _ := strings.Cut(string(answer[1:]), "\r\n")
	if answer[0] != '-' || strings.HasPrefix(text, "LOADING ") || strings.HasPrefix(text, "MASTERDOWN ") {
		return nil
	}
	return veil(fmt.Errorf("failed to authenticate: %w", serverError(text)))
}

// hideLogin takes user and password out of an answer that repeats them. A server that does not know AUTH
// or HELLO does: "-ERR unknown command 'auth', with args beginning with: …". The answer keeps its length.
func hideLogin(answer []byte) {
	line, _, _ := bytes.Cut(answer, []byte("\r"))
	command, args, repeated := bytes.Cut(line, []byte("beginning with:"))
	command = bytes.ToLower(command)
	if !repeated || !bytes.Contains(command, []byte("auth")) && !bytes.Contains(command, []byte("hello")) {
		return
	}
	for i := range args {
		args[i] = ' '
	}
	copy(args, " ***")
}

// end ends the login: what follows is sent as it is.
func (l *login) end(c *conn) {
	l.state = loggedIn
	c.start.login = nil
}

// serverError is an answer of the server that go-redis has not read.
type serverError string

func (e serverError) Error() string { return string(e) }

// RedisError implements redis.Error.
func (serverError) RedisError() {}

// authBy returns AUTH for a login. Servers without users know only the form with a password alone.
func authBy(by rotation.Login) []byte {
	if by.User == defaultUser {
		return wire("auth", by.Password)
	}
	return wire("auth", by.User, by.Password)
}

// loginOf returns user and password as go-redis sends them.
func loginOf(user, password string) rotation.Login {
	if password == "" {
		return rotation.Login{}
	}
	return rotation.Login{User: cmp.Or(user, defaultUser), Password: password}
}

// loginIn returns the login in the words of a HELLO, and what follows it.
func loginIn(hello []string) (by rotation.Login, others []string) {
	others = hello[2:] // HELLO and the version of the protocol
	if len(others) < 3 || !strings.EqualFold(others[0], "auth") {
		return by, others
	}
	return rotation.Login{User: others[1], Password: others[2]}, others[3:]
}

// staleError is what a command gets that was about to be written on a connection which was not
// checked when it was handed out. Nothing has been sent.
type staleError struct{}

func (staleError) Error() string { return "redispool: connection turned out to be closed before use" }

// Is makes go-redis try again.
func (staleError) Is(target error) bool { return target == io.EOF }

// writeFirst writes the first command after a checkout without a check, or the first ones of a new
// connection.
func (c *conn) writeFirst(b []byte) (int, error) {
	if c.checkout == unchecked {
		c.checkout = checked
		if c.closeReason() != stays || c.hasEnded() {
			return 0, staleError{}
		}
	}
	if !c.fresh {
		return c.write(b)
	}
	out, err := c.firstWords(b)
	if err != nil {
		return 0, err
	}
	if len(out) > 0 {
		if _, err := c.write(out); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// firstWords returns what to send in place of b, a command that is written on a new connection. A
// handshake comes first, and logs in by the login in effect. What follows tells what the connection
// is for: a subscription is one from its SUBSCRIBE on.
func (c *conn) firstWords(b []byte) ([]byte, error) {
	if l := c.start.login; l != nil {
		out, err := l.instead(c, b)
		if err != nil || len(out) == 0 {
			return nil, err
		}
		b = out
	}
	switch name := commandName(b); {
	case isHandshake(name):
	case name == "subscribe" || name == "psubscribe" || name == "ssubscribe":
		return b, c.subscribes()
	case c.node.client.Options().OnConnect == nil:
		c.endGreeting()
	}
	return b, nil
}

// isHandshake reports whether a command may be part of go-redis' handshake.
func isHandshake(name string) bool {
	switch name {
	case "hello", "auth", "select", "readonly", "client":
		return true
	}
	return false
}

// subscribes makes the connection a subscription's.
func (c *conn) subscribes() error {
	n := c.node
	if n.pool.gate.Closed() {
		return n.pool.refusal() // a new one, or one that has lost its connection
	}
	if c.is() == forSubscription {
		return nil
	}
	holder := new(holders.Entry)
	n.pool.held.Hold(holder, poolkeeper.KindPubSub)
	n.mu.Lock()
	lost := c.gone.Load()
	if !lost {
		c.purpose.Store(uint32(forSubscription))
		c.start.holder = holder
		n.open.Add(-1)
	}
	n.mu.Unlock()
	if lost {
		n.pool.held.Release(holder)
	}
	c.endGreeting()
	return nil
}

// settle notes that the connection is the pool's for good. Its user calls it.
func (c *conn) settle() {
	c.fresh = false
	c.endGreeting()
}

// endGreeting notes that the handshake is over. A connection above MaxOpen, which Reload has
// lowered while it was dialled, serves once.
func (c *conn) endGreeting() {
	n := c.node
	if !c.start.greeting.CompareAndSwap(true, false) {
		return
	}
	settled := n.open.Load() - n.greeting.Add(-1)
	if c.is() == forPool && settled > int64(n.pool.config().MaxOpen) {
		c.condemn(reload)
	}
}

// loginTime is the context for the login of a new connection, for which the caller of an acquisition
// waits.
type loginTime struct {
	context.Context //nolint:containedctx // a context is what it makes

	by time.Time
}

// Deadline is the earlier one of the caller's and of what AcquireTimeout leaves.
func (l loginTime) Deadline() (time.Time, bool) { return l.by, true }

// duringLogin returns the context for a command of a login.
func duringLogin(ctx context.Context) context.Context {
	a, ok := ctx.Value(acquisitionKey{}).(*acquisition)
	if !ok {
		return ctx
	}
	by, bounded := a.caller.Deadline()
	if a.limit > 0 {
		waited, _ := a.soFar()
		if over := time.Now().Add(a.limit - waited); !bounded || over.Before(by) {
			by, bounded = over, true
		}
	}
	if !bounded {
		return withoutDeadline{ctx}
	}
	return loginTime{ctx, by}
}

// withoutDeadline keeps a question for the deadline from its context.
type withoutDeadline struct{ context.Context } //nolint:containedctx // a context is what it makes

func (withoutDeadline) Deadline() (time.Time, bool) { return time.Time{}, false }
