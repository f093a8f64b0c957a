package redispool

import (
	"cmp"
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper/internal/rotation"
)

// defaultUser is the one whom a password alone logs in.
const defaultUser = "default"

// handshake logs in on one new connection. go-redis logs in by the client's options, which are the
// user's and stay as New was given them. If another login is in effect since, by a Reload or a file
// that has changed, the handshake sends that one in its place. It belongs to the goroutine that
// opens the connection.
type handshake struct {
	node    *node
	greeted bool            // HELLO has been sent, or the login is none of the pool's affair
	instead *rotation.Login // for the AUTH that go-redis sends after a HELLO that was refused; nil: as go-redis says
}

// newHandshake returns the handshake of one connection. Streaming credentials are left to go-redis.
func (n *node) newHandshake() *handshake {
	return &handshake{node: n, greeted: n.client.Options().StreamingCredentialsProvider != nil}
}

// process sends a command of the handshake. The first one is HELLO. OnConnect's come later, and are
// left alone.
func (h *handshake) process(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	if !h.greeted {
		h.greeted = true
		if cmd.Name() == "hello" {
			return h.hello(ctx, cmd, next)
		}
	}
	instead := h.instead
	h.instead = nil
	if instead != nil && cmd.Name() == "auth" {
		return h.auth(ctx, *instead, next)
	}
	return next(duringLogin(ctx), cmd)
}

// hello sends HELLO with the login in effect. To a server that refuses it go-redis sends AUTH, but
// only if the options have a password.
func (h *handshake) hello(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	theirs, rest := loginIn(cmd.Args())
	now, err := h.node.pool.loginInstead(ctx, theirs)
	if err != nil {
		err = fmt.Errorf("failed to resolve credentials: %w", err)
		if isAnswer(err) {
			return veil(err) // go-redis would take it for an answer to HELLO
		}
		return err
	}
	if now == theirs {
		return next(duringLogin(ctx), cmd)
	}
	err = next(duringLogin(ctx), redis.NewMapStringInterfaceCmd(ctx, helloBy(now, cmd.Args()[1], rest)...))
	switch {
	case err == nil || !isAnswer(err):
	case theirs.Password != "":
		h.instead = &now
	default:
		if refused := h.auth(ctx, now, next); refused != nil {
			return veil(fmt.Errorf("failed to authenticate: %w", refused))
		}
	}
	return err
}

// auth sends AUTH for a login, if it has a password.
func (h *handshake) auth(ctx context.Context, by rotation.Login, next redis.ProcessHook) error {
	switch {
	case by.Password == "":
		return nil
	case by.User == defaultUser: // servers without users know only this form
		return next(duringLogin(ctx), redis.NewStatusCmd(ctx, "auth", by.Password))
	}
	return next(duringLogin(ctx), redis.NewStatusCmd(ctx, "auth", by.User, by.Password))
}

// loginInstead returns the login in effect. theirs is the one of the options, as go-redis sends it.
// It takes note of a login that has changed by itself.
func (p *Pool) loginInstead(ctx context.Context, theirs rotation.Login) (rotation.Login, error) {
	a := p.aim.Load()
	if a.shown {
		p.noteLogin(a, theirs)
		return theirs, nil
	}
	user, password, err := p.login(ctx)
	return loginOf(user, password), err
}

// loginOf returns user and password as go-redis sends them.
func loginOf(user, password string) rotation.Login {
	if password == "" {
		return rotation.Login{}
	}
	return rotation.Login{User: cmp.Or(user, defaultUser), Password: password}
}

// loginIn returns the login in the words of a HELLO, and what follows it.
func loginIn(hello []any) (by rotation.Login, rest []any) {
	rest = hello[2:] // HELLO and the version of the protocol
	if len(rest) < 3 || rest[0] != "auth" {
		return by, rest
	}
	by.User, _ = rest[1].(string)
	by.Password, _ = rest[2].(string)
	return by, rest[3:]
}

// helloBy returns the words of a HELLO with another login.
func helloBy(by rotation.Login, version any, rest []any) []any {
	words := []any{"hello", version}
	if by.Password != "" {
		words = append(words, "auth", by.User, by.Password)
	}
	return append(words, rest...)
}
