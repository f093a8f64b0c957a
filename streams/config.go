package streams

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/poolkeeper/poolkeeper/internal/env"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

const pkg = "streams"

// Defaults of Config.
const (
	defaultPing         = 30 * time.Second
	defaultPongWait     = 60 * time.Second
	defaultMaxAge       = 24 * time.Hour
	defaultWriteTimeout = 10 * time.Second
	defaultDrainSpread  = 5 * time.Second
	defaultRetry        = 3 * time.Second
	defaultReplayFor    = 2 * time.Minute
	defaultMax          = 10_000
	defaultBuffer       = 64
	defaultReplay       = 128
	defaultReadLimit    = 32 << 10
)

// NoReplay is a Config.Replay that keeps no event: a client that reconnects begins with the next
// one.
const NoReplay = -1

// Overflow says what happens to a stream whose buffer is full when an event is broadcast.
type Overflow int

// Overflow policies.
const (
	// DropSlow closes the stream: its client reconnects, and gets what it has missed from the
	// replay buffer if it is an SSE client. It is the default.
	DropSlow Overflow = iota
	// DropOldest keeps the stream and drops the oldest event that waits in its buffer. It fits
	// events of which only the latest counts.
	DropOldest
)

func (o Overflow) word() string {
	switch o {
	case DropSlow:
		return "drop-slow"
	case DropOldest:
		return "drop-oldest"
	}
	return fmt.Sprintf("Overflow(%d)", int(o))
}

// Config configures a [Hub]. It is passed by value; the zero value of each field means its default.
// No duration may be longer than 100 years, or shorter than 1 ms.
type Config struct {
	// Name is the hub's name in logs, errors and metrics until SetName gives another; a Registry
	// does. Default: "streams".
	Name string

	// Ping is how often a peer is sent a sign of life: a ping on a WebSocket, a comment on an SSE
	// stream. It has to be below the idle time-outs of the proxies in between. Default: 30 s.
	Ping time.Duration
	// PongWait is after how long a WebSocket peer that sends nothing, not even pongs, is taken for
	// dead and cut off. It must be longer than Ping. An SSE peer sends nothing, but its kernel
	// acknowledges what it receives: see [ConnContext]. Default: 60 s.
	PongWait time.Duration
	// MaxAge is after how long a stream is closed, so that its client reconnects and authorizes
	// itself again. Default: 24 h. Off: never.
	MaxAge time.Duration
	// WriteTimeout bounds each write to a peer, and the write of the close message. A peer that
	// takes no bytes for so long is cut off. Default: 10 s.
	WriteTimeout time.Duration

	// Max bounds the streams open at once. The next request gets 503 and Retry-After. Default:
	// 10,000.
	Max int
	// MaxPerKey bounds the streams open at once with the same key. The next request gets 429. It
	// needs Key. Default: 0, no limit.
	MaxPerKey int
	// Key returns the owner of the stream, such as the user's ID. An empty key is not limited.
	// It runs after Authorize, on the goroutine of the request. It needs MaxPerKey.
	Key func(*http.Request) string

	// Authorize decides, before the upgrade, whether a request may open a stream. An error refuses
	// it with 401, or with the status that the error's method StatusCode() int returns. The error's
	// text goes to the log at debug level, never to the client. Authorize may leave what it has
	// found for the handler: *r = *r.WithContext(…). Default: nil, all may.
	Authorize func(*http.Request) error
	// Accept is passed to websocket.Accept: allowed origins, subprotocols, compression. By default
	// only the own origin is allowed, and nothing is compressed. Of it, OriginPatterns and
	// InsecureSkipVerify are for SSE too: a page of another origin, as Sec-Fetch-Site and Origin tell,
	// is refused unless a pattern allows it. A page that is to read the stream needs CORS headers
	// besides, which are the service's to set.
	Accept websocket.AcceptOptions
	// ReadLimit bounds a message from a WebSocket peer, in bytes. A longer one closes the
	// connection with 1009. Default: 32,768.
	ReadLimit int

	// Buffer is how many events may wait for a stream, besides those being written. Default: 64.
	Buffer int
	// Overflow says what happens to a stream whose buffer is full. Default: DropSlow.
	Overflow Overflow
	// Replay is how many events of each topic are kept for SSE clients that reconnect with
	// Last-Event-ID. Default: 128. NoReplay: none.
	Replay int
	// ReplayFor is how long a topic without subscribers is remembered, with its events. Default:
	// 2 min.
	ReplayFor time.Duration
	// Retry is after how long an SSE client is told to reconnect. Default: 3 s.
	Retry time.Duration

	// DrainSpread is the time over which streams are closed at shutdown, the oldest first, so that
	// their clients do not come back at once. It is shortened to half of the time that is left.
	// Default: 5 s. Off: all at once.
	DrainSpread time.Duration

	// Logger gets the events of the hub. Default: slog.Default(), as of each line.
	Logger *slog.Logger
}

// FromEnv returns a Config filled from environment variables that are named after its fields: with
// the prefix "STREAMS", Ping is STREAMS_PING ("30s"), MaxAge STREAMS_MAX_AGE (a duration or "off"),
// Overflow STREAMS_OVERFLOW ("drop-slow" or "drop-oldest"). A variable that is empty counts as not
// set. Functions, Accept and Logger are left to the caller. The error names every variable that
// cannot be used.
func FromEnv(prefix string) (Config, error) {
	var cfg Config
	r := env.NewReader(pkg, prefix)
	r.Fill(&cfg, map[string]bool{"MaxAge": true, "DrainSpread": true})
	env.Choose(r, "Overflow", &cfg.Overflow,
		env.Choice[Overflow]{Word: DropSlow.word(), Value: DropSlow}, env.Choice[Overflow]{Word: DropOldest.word(), Value: DropOldest})
	valid := cfg
	valid.MaxPerKey = min(valid.MaxPerKey, 0) // its Key is the caller's to give
	return cfg, r.Err(valid.Validate())
}

// Validate reports every fault of the configuration, joined. It changes nothing.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(pkg+": "+format, args...)) }
	errs = append(errs, settings.Times(pkg,
		settings.Time{Name: "Ping", Value: c.Ping, Long: true},
		settings.Time{Name: "PongWait", Value: c.PongWait, Long: true},
		settings.Time{Name: "MaxAge", Value: c.MaxAge, Off: true, Long: true},
		settings.Time{Name: "WriteTimeout", Value: c.WriteTimeout, Long: true},
		settings.Time{Name: "ReplayFor", Value: c.ReplayFor, Long: true},
		settings.Time{Name: "Retry", Value: c.Retry, Long: true},
		settings.Time{Name: "DrainSpread", Value: c.DrainSpread, Off: true, Long: true},
	))
	for _, n := range []struct {
		name  string
		value int
		least int
		or    string
	}{
		{"Max", c.Max, 0, "0 (the default)"},
		{"MaxPerKey", c.MaxPerKey, 0, "0 (no limit)"},
		{"ReadLimit", c.ReadLimit, 0, "0 (the default)"},
		{"Buffer", c.Buffer, 0, "0 (the default)"},
		{"Replay", c.Replay, NoReplay, "0 (the default) or NoReplay"},
	} {
		if n.value < n.least {
			fault("%s is %d; it must be positive or %s", n.name, n.value, n.or)
		}
	}
	if c.Overflow != DropSlow && c.Overflow != DropOldest {
		fault("Overflow is %d; it must be DropSlow or DropOldest", int(c.Overflow))
	}
	if (c.Key == nil) != (c.MaxPerKey <= 0) {
		fault("MaxPerKey is %d and Key is set: %t; each needs the other", c.MaxPerKey, c.Key != nil)
	}
	for _, pattern := range c.Accept.OriginPatterns {
		if _, err := path.Match(strings.ToLower(pattern), ""); err != nil {
			fault("Accept.OriginPatterns has %q; it must be a pattern of path.Match", pattern)
		}
	}
	d := c.withDefaults()
	if d.Ping > 0 && d.PongWait > 0 && d.PongWait <= d.Ping {
		fault("PongWait is %s; it must be longer than Ping, %s", d.PongWait, d.Ping)
	}
	if c.Max >= 0 && d.MaxPerKey > d.Max {
		fault("MaxPerKey is %d; it must be at most Max, %d", d.MaxPerKey, d.Max)
	}
	return errors.Join(errs...)
}

// withDefaults returns c with its defaults filled in. What is Off is 0.
func (c Config) withDefaults() Config {
	time := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	number := func(n *int, otherwise int) {
		if *n == 0 {
			*n = otherwise
		}
	}
	if c.Name == "" {
		c.Name = pkg
	}
	time(&c.Ping, defaultPing)
	time(&c.PongWait, defaultPongWait)
	time(&c.WriteTimeout, defaultWriteTimeout)
	time(&c.ReplayFor, defaultReplayFor)
	time(&c.Retry, defaultRetry)
	c.MaxAge = settings.Or(c.MaxAge, defaultMaxAge)
	c.DrainSpread = settings.Or(c.DrainSpread, defaultDrainSpread)
	number(&c.Max, defaultMax)
	number(&c.ReadLimit, defaultReadLimit)
	number(&c.Buffer, defaultBuffer)
	number(&c.Replay, defaultReplay)
	c.Replay = max(c.Replay, 0)
	return c
}

// Settings returns the settings in effect.
func (h *Hub) Settings() []slog.Attr {
	c := h.cfg
	return []slog.Attr{
		slog.String("kind", pkg),
		slog.Duration("ping", c.Ping), slog.Duration("pong_wait", c.PongWait),
		settings.Duration("max_age", c.MaxAge), slog.Duration("write_timeout", c.WriteTimeout),
		slog.Int("max", c.Max), slog.Int("max_per_key", c.MaxPerKey), slog.Bool("authorize", c.Authorize != nil),
		slog.Int("read_limit", c.ReadLimit), slog.Int("buffer", c.Buffer), slog.String("overflow", c.Overflow.word()),
		slog.Int("replay", c.Replay), slog.Duration("replay_for", c.ReplayFor), slog.Duration("retry", c.Retry),
		settings.Duration("drain_spread", c.DrainSpread),
	}
}
