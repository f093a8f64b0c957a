package lifecycle

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"github.com/poolkeeper/poolkeeper/internal/printing"
)

// inert is a component that holds nothing before it was started: there is nothing to abort then.
type inert interface{ inert() }

// Hooks is a component of two functions, either of which may be nil. OnStop is called if and only
// if OnStart has returned nil. Hooks can be started again.
type Hooks struct {
	OnStart, OnStop func(context.Context) error
}

// Start calls OnStart.
func (h Hooks) Start(ctx context.Context) error {
	if h.OnStart == nil {
		return nil
	}
	return h.OnStart(ctx)
}

// Stop calls OnStop.
func (h Hooks) Stop(ctx context.Context) error {
	if h.OnStop == nil {
		return nil
	}
	return h.OnStop(ctx)
}

// Restartable is true.
func (h Hooks) Restartable() bool { return true }

func (h Hooks) inert() {}

// Closer makes a component of something that is open already and has to be closed: Start does
// nothing, Stop calls Close, once. It is closed even if it was never started. Close is not told
// when its time is over: if it hangs, it is given up.
func Closer(c io.Closer) Component {
	if c == nil {
		return nil
	}
	return &closer{c: c}
}

type closer struct {
	c    io.Closer
	once sync.Once
	err  error // set by once
}

// Start does nothing.
func (c *closer) Start(context.Context) error { return nil }

// Stop closes it.
func (c *closer) Stop(context.Context) error {
	c.once.Do(func() { c.err = c.c.Close() })
	return c.err
}

// HTTPClient makes a component of a client, so that its idle connections are closed at the end.
// Requests under way are not waited for: what makes them depends on the client and has stopped
// before. It can be started again.
func HTTPClient(c *http.Client) Component {
	if c == nil {
		return nil
	}
	return &httpClient{c}
}

type httpClient struct{ c *http.Client }

// Start does nothing.
func (c *httpClient) Start(context.Context) error { return nil }

// Stop closes idle connections.
func (c *httpClient) Stop(context.Context) error {
	c.c.CloseIdleConnections()
	return nil
}

// Restartable is true.
func (c *httpClient) Restartable() bool { return true }

// String returns the type of what is closed.
func (c *closer) String() string { return fmt.Sprintf("lifecycle.Closer{%T}", c.c) }

// Format prints what String returns, for every verb.
func (c *closer) Format(f fmt.State, _ rune) { printing.Format(f, c) }

// LogValue returns what String returns.
func (c *closer) LogValue() slog.Value { return printing.LogValue(c) }
