package streams

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/guard"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/internal/retry"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// ClientConfig configures a [Client]. Only Receive is required.
type ClientConfig struct {
	// Name is the client's name in logs and errors until SetName gives another; a Registry does.
	// Default: "stream-client".
	Name string
	// Receive is called for each event, one at a time, on the client's goroutine. A message of a
	// WebSocket is an Event with Data alone. Its context ends with the stream. An error, or a panic,
	// closes the stream, which is then opened anew; an SSE stream goes on after the last event for
	// which Receive returned nil.
	Receive func(context.Context, Event) error
	// Header returns the headers of each attempt, such as a token that is renewed. Default: none.
	Header func(context.Context) (http.Header, error)
	// HTTP makes the requests. Its Timeout must be 0: a stream has no end. Default:
	// http.DefaultClient.
	HTTP *http.Client
	// Silence is after how long without a sign of life the stream is closed and opened anew. It has
	// to be longer than the server's Ping. Default: 90 s.
	Silence time.Duration
	// ConnectTimeout bounds each attempt. Default: 10 s.
	ConnectTimeout time.Duration
	// ReadLimit bounds one message, or one line of an SSE stream, in bytes. Default: 1 MiB.
	ReadLimit int
	// Backoff says how the client tries again.
	Backoff Backoff
	// Logger gets the events of the client. Default: slog.Default(), as of each line.
	Logger *slog.Logger
}

// Client keeps one stream from a server open: it opens it anew when it ends, with growing waits. It
// is a component of a lifecycle registry. All methods are safe for concurrent use.
type Client struct {
	url       func() string // as a function: it may hold a secret, and is not to be printed with c
	websocket bool
	cfg       ClientConfig
	state     *life.State
	events    *event.Log

	running context.Context //nolint:containedctx // ends with Stop: the stream is closed
	stop    context.CancelFunc
	cutting context.Context //nolint:containedctx // ends when the time of Stop is over: the connection is cut off
	cut     context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended

	// Of the client's goroutine alone.
	lastID string        // of the last event received
	retry  time.Duration // that the server asks for

	mu       sync.Mutex // guards the following
	conn     *websocket.Conn
	open     bool
	failures int // attempts in a row
	err      error
}

// NewClient returns a client of the SSE stream at a URL that begins with http or https, or of the
// WebSocket at one that begins with ws or wss. The URL is never printed. It fails if the URL or the
// configuration has faults, all of which the error names.
func NewClient(address string, cfg ClientConfig) (*Client, error) {
	u, err := url.Parse(address)
	var errs []error
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "ws", "wss"}, u.Scheme) {
		errs = append(errs, fmt.Errorf("%s: the URL must begin with http://, https://, ws:// or wss://, and a host", pkg))
	}
	if err := errors.Join(append(errs, cfg.validate())...); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	c := &Client{
		url: func() string { return address }, websocket: u.Scheme[0] == 'w', cfg: cfg, state: life.NewState(pkg, cfg.Name), done: make(chan struct{}),
	}
	c.running, c.stop = context.WithCancel(context.Background()) //nolint:forbidigo // it carries nothing and ends with Stop
	c.cutting, c.cut = context.WithCancel(context.Background())  //nolint:forbidigo // the same
	c.events = newLog(c.state.Name, cfg.Logger)
	return c, nil
}

func (c ClientConfig) validate() error {
	var errs []error
	if c.Receive == nil {
		errs = append(errs, errors.New(pkg+": Receive is nil; it must be a function"))
	}
	if c.HTTP != nil && c.HTTP.Timeout != 0 {
		errs = append(errs, fmt.Errorf("%s: HTTP.Timeout is %s; it must be 0, because it would end each stream", pkg, c.HTTP.Timeout))
	}
	if c.ReadLimit < 0 {
		errs = append(errs, fmt.Errorf("%s: ReadLimit is %d; it must be positive or 0 (the default)", pkg, c.ReadLimit))
	}
	return errors.Join(append(errs, settings.Times(pkg,
		settings.Time{Name: "Silence", Value: c.Silence, Long: true},
		settings.Time{Name: "ConnectTimeout", Value: c.ConnectTimeout, Long: true}), c.Backoff.validate())...)
}

func (c ClientConfig) withDefaults() ClientConfig {
	if c.Name == "" {
		c.Name = "stream-client"
	}
	if c.HTTP == nil {
		c.HTTP = http.DefaultClient
	}
	if c.Silence == 0 {
		c.Silence = 90 * time.Second
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 10 * time.Second
	}
	if c.ReadLimit == 0 {
		c.ReadLimit = 1 << 20
	}
	c.Backoff = c.Backoff.withDefaults()
	return c
}

// SetName gives the client its name in logs and errors. The Registry calls it. An empty name
// changes nothing.
func (c *Client) SetName(name string) { c.state.SetName(name) }

// Subscribe calls fn for every event of the client from now on, until cancel is called: the server
// is down after Backoff.Failures failures, or back, or Receive panicked. fn may be called
// concurrently, and must not block. A panic in it is logged.
func (c *Client) Subscribe(fn func(poolkeeper.Event)) (cancel func()) { return c.events.Subscribe(fn) }

// Start begins to open the stream, and does not wait for it: Check says whether it is open. A client
// cannot be started twice, nor after Stop.
func (c *Client) Start(ctx context.Context) error {
	return c.state.Start(ctx, func(context.Context) error { return nil }, func() {
		// Owner: the client. Stop ends its context and waits for it.
		go c.run()
	})
}

// Stop closes the stream, and waits for Receive and Header to return. When ctx ends it cuts off the
// connection, and returns an error that says what it has waited for. It may be called more than
// once, and without Start.
func (c *Client) Stop(ctx context.Context) error {
	return c.state.Stop(ctx, func(ctx context.Context, started <-chan struct{}) error {
		c.stop()
		if !life.Closed(ctx, started) {
			return context.Cause(ctx)
		}
		defer c.cut()
		if started == nil || life.Closed(ctx, c.done) {
			return nil
		}
		c.cut()
		grace, cancel := context.WithTimeout(context.Background(), cutGrace) //nolint:forbidigo // the caller's has ended
		defer cancel()
		if life.Closed(grace, c.done) {
			return nil
		}
		return fmt.Errorf("%s: stop %q: Receive or Header has not returned: %w", pkg, c.state.Name(), context.Cause(ctx))
	})
}

// Check fails while the server is down: Backoff.Failures attempts in a row have failed. It does not
// ask the server.
func (c *Client) Check(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures < c.cfg.Backoff.Failures {
		return nil
	}
	return fmt.Errorf("%s: %q: no stream after %d attempts: %w", pkg, c.state.Name(), c.failures, c.err)
}

// Write sends a message to the server of a WebSocket. It blocks at most until ctx ends, and then the
// connection is closed. It fails with poolkeeper.ErrDown while there is no connection.
func (c *Client) Write(ctx context.Context, kind websocket.MessageType, data []byte) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return fmt.Errorf("%s: write to %q: there is no WebSocket: %w", pkg, c.state.Name(), poolkeeper.ErrDown)
	}
	return conn.Write(ctx, kind, data)
}

// run opens the stream again and again.
func (c *Client) run() {
	defer close(c.done)
	for c.running.Err() == nil {
		asked, err := c.session()
		if c.running.Err() != nil {
			return
		}
		retry.Sleep(c.running, c.cfg.Backoff.wait(c.closed(err), asked, rand.Float64()))
	}
}

// opened takes note that the stream is open.
func (c *Client) opened(conn *websocket.Conn) {
	c.mu.Lock()
	failures := c.failures
	c.conn, c.open, c.failures, c.err = conn, true, 0, nil
	c.mu.Unlock()
	if failures >= c.cfg.Backoff.Failures {
		c.events.Emit(event.Event{
			Kind: event.Up, Level: slog.LevelInfo, Text: "the stream is open again",
			Attrs: []slog.Attr{slog.Int("attempts", failures+1)},
		})
	}
}

// closed takes note that an attempt has failed, or that the stream has ended. It returns how many
// attempts in a row have failed.
func (c *Client) closed(err error) (failures int) {
	c.mu.Lock()
	if !c.open {
		c.failures++
		c.err = err
	}
	c.conn, c.open = nil, false
	failures = c.failures
	c.mu.Unlock()
	if failures == c.cfg.Backoff.Failures {
		c.events.Emit(event.Event{
			Kind: event.Down, Level: slog.LevelWarn, Text: "the stream cannot be opened; the client keeps trying", Err: err,
			Attrs: []slog.Attr{slog.Int("attempts", failures)},
		})
	}
	return failures
}

// session opens the stream and receives what comes, until it ends. asked is how long the server asks
// the client to wait.
func (c *Client) session() (asked time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(c.cutting)
	defer cancel(nil)
	w := &watchdog{cancel: cancel}
	w.timer = time.AfterFunc(c.cfg.ConnectTimeout, w.bark)
	defer w.timer.Stop()
	var header http.Header
	if failed := guard.Catch(func() {
		if c.cfg.Header != nil {
			header, err = c.cfg.Header(ctx)
		}
	}); failed != nil {
		err = c.events.Panicked("Header", failed)
	}
	if err != nil {
		return 0, err
	}
	if header == nil {
		header = http.Header{}
	}
	if c.websocket {
		asked, err = c.sessionWS(ctx, header, w)
	} else {
		asked, err = c.sessionSSE(ctx, header.Clone(), w)
	}
	if errors.Is(context.Cause(ctx), errSilent) {
		err = errSilent
	}
	return asked, withoutURL(err)
}

// receive passes an event on.
func (c *Client) receive(ctx context.Context, e Event) (err error) {
	if failed := guard.Catch(func() { err = c.cfg.Receive(ctx, e) }); failed != nil {
		return c.events.Panicked("Receive", failed)
	}
	return err
}

// errSilent ends a session in which nothing has come for too long.
var errSilent = fmt.Errorf("%s: no sign of life from the server in time: %w", pkg, context.DeadlineExceeded)

// watchdog ends a session in which nothing comes.
type watchdog struct {
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func (w *watchdog) bark() { w.cancel(errSilent) }

// withoutURL takes off an error the URL of the request, which may hold a secret.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
