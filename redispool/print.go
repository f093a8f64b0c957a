package redispool

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/isolation"
	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// String prints the fields that are set. It prints "…" for URL, which may hold a password, and for
// values that cannot be printed. [Pool.Settings] returns the configuration in effect.
func (c Config) String() string { return settings.Config("redispool.Config", c, "URL") }

// Format prints String, whatever the verb: %d would print the fields one by one.
func (c Config) Format(f fmt.State, _ rune) { printing.Format(f, c) }

// LogValue is String, for slog.
func (c Config) LogValue() slog.Value { return printing.LogValue(c) }

// MarshalJSON returns String as a JSON string.
func (c Config) MarshalJSON() ([]byte, error) { return printing.JSON(c) }

// String returns the pool's name, and how many of its connections are in use. It is used for every
// verb of fmt, because a pool's fields hold passwords and change while they are printed.
func (p *Pool) String() string {
	s := p.Stats()
	return fmt.Sprintf("redispool.Pool{%q, in use: %d of %d}", p.poolName(), s.InUse, s.Max)
}

// Format prints String, whatever the verb.
func (p *Pool) Format(f fmt.State, _ rune) { printing.Format(f, p) }

// LogValue is String, for slog.
func (p *Pool) LogValue() slog.Value { return printing.LogValue(p) }

// MarshalJSON returns String as a JSON string.
func (p *Pool) MarshalJSON() ([]byte, error) { return printing.JSON(p) }

// Settings returns the configuration in effect, with defaults. It has addresses and limits, but no
// user and no password.
func (p *Pool) Settings() []slog.Attr {
	c, o := p.config(), p.endpoint.Load().target.opts
	return []slog.Attr{
		slog.String("kind", p.target.kind.String()),
		slog.String("addresses", strings.Join(o.Addrs, ",")),
		slog.String("master", o.MasterName),
		slog.Int("database", o.DB),
		slog.Int("max_open", c.MaxOpen),
		slog.Int("max_open_ceiling", c.MaxOpenCeiling),
		slog.Int("min_idle", c.MinIdle),
		settings.Duration("max_idle_time", c.MaxIdleTime),
		settings.Duration("max_lifetime", c.MaxLifetime),
		slog.Float64("lifetime_jitter", c.LifetimeJitter),
		settings.Duration("keep_alive", c.KeepAlive),
		settings.Duration("acquire_timeout", c.AcquireTimeout),
		slog.Int("max_waiting", c.MaxWaiting),
		settings.Duration("dial_timeout", c.DialTimeout),
		settings.Duration("fail_fast_after", c.FailFastAfter),
		settings.Adaptive("suspect_ping", c.SuspectPing),
		settings.Duration("read_timeout", c.ReadTimeout),
		settings.Duration("write_timeout", c.WriteTimeout),
		slog.Int("max_attempts", p.target.attempts()),
		settings.Duration("leak_threshold", c.LeakThreshold),
		slog.Bool("disable_leak_stacks", c.DisableLeakStacks),
		slog.String("check_command", cmp.Or(c.CheckCommand, "PING")),
		slog.String("start", c.Start.String()),
		slog.Bool("tls", c.TLS != nil || o.TLSConfig != nil || c.TLSFiles != (poolkeeper.TLSFiles{})),
		slog.String("tls_ca_file", c.TLSFiles.CA),
		slog.String("tls_cert_file", c.TLSFiles.Cert),
		slog.String("tls_key_file", c.TLSFiles.Key),
		slog.String("credentials_file", c.CredentialsFile),
		settings.Duration("file_interval", c.FileInterval),
		slog.Bool("credentials_given", c.Credentials != nil),
		slog.Int("instances", c.Instances),
		isolation.Settings(c.Isolation, isolation.SampleEvery(c.Isolation)),
	}
}
