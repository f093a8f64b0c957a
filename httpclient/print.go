package httpclient

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// String prints the fields that are set, and "…" for values that cannot be printed.
func (c Config) String() string { return settings.Config("httpclient.Config", c) }

// Format prints String, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { printing.Format(f, c) }

// LogValue is String, for slog.
func (c Config) LogValue() slog.Value { return printing.LogValue(c) }

// MarshalJSON returns String as a JSON string.
func (c Config) MarshalJSON() ([]byte, error) { return printing.JSON(c) }

// String returns the client's name, and how many requests are in flight.
func (c *Client) String() string {
	return fmt.Sprintf("httpclient.Client{%q, in flight: %d}", c.state.Name(), c.gate.InFlight())
}

// Format prints String, whatever the verb.
func (c *Client) Format(f fmt.State, _ rune) { printing.Format(f, c) }

// LogValue is String, for slog.
func (c *Client) LogValue() slog.Value { return printing.LogValue(c) }

// MarshalJSON returns String as a JSON string.
func (c *Client) MarshalJSON() ([]byte, error) { return printing.JSON(c) }

// Settings returns the configuration in effect, with defaults.
func (c *Client) Settings() []slog.Attr {
	f := c.config()
	return []slog.Attr{
		slog.String("kind", "http"),
		slog.String("base_url", f.BaseURL),
		slog.String("hosts", strings.Join(f.Hosts, ",")),
		isolation.Settings(f.Isolation, f.judgeEvery()),
		slog.String("class", f.Class.String()),
		slog.Int("max_open", f.MaxOpen),
		slog.Int("max_idle", f.MaxIdle),
		slog.Int("max_waiting", f.MaxWaiting),
		settings.Duration("max_idle_time", f.MaxIdleTime),
		settings.Duration("acquire_timeout", f.AcquireTimeout),
		settings.Duration("dial_timeout", f.DialTimeout),
		settings.Duration("tls_timeout", f.TLSTimeout),
		settings.Duration("header_timeout", f.HeaderTimeout),
		settings.Duration("body_timeout", f.BodyTimeout),
		settings.Duration("request_timeout", f.RequestTimeout),
		settings.Duration("fail_fast_after", f.FailFastAfter),
		slog.String("check_path", f.CheckPath),
		slog.String("start", f.Start.String()),
		settings.Duration("leak_threshold", f.LeakThreshold),
		slog.Bool("disable_leak_stacks", f.DisableLeakStacks),
		slog.Bool("tls_given", f.TLS != nil),
		slog.Bool("tls_files", f.TLSFiles != poolkeeper.TLSFiles{}),
		settings.Duration("file_interval", f.FileInterval),
		slog.Bool("authorize_given", f.Authorize != nil),
		slog.Bool("wrap_given", f.Wrap != nil),
	}
}
