package redispool

import (
	"cmp"
	"log/slog"
	"strings"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// Settings returns the configuration in effect, with defaults. It has addresses and limits, but no
// user and no password.
func (p *Pool) Settings() []slog.Attr {
	c, o := p.config(), p.aim.Load().target.opts
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
	}
}
