package sqlpool

import (
	"log/slog"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// effective lists what is in effect, of the fields that this kind of pool has. It names no server
// and no user: those are part of URL, and URL is not printed.
func (m *manager) effective() []slog.Attr {
	cfg := m.cfg()
	out := []slog.Attr{
		slog.String("kind", m.kind),
		slog.Int("max_open", cfg.MaxOpen),
		slog.Int("min_idle", cfg.MinIdle),
		settings.Duration("max_idle_time", cfg.MaxIdleTime),
		settings.Duration("max_lifetime", cfg.MaxLifetime),
		slog.Float64("lifetime_jitter", cfg.LifetimeJitter),
		settings.Duration("keep_alive", cfg.KeepAlive),
		settings.Duration("eviction_interval", cfg.EvictionInterval),
		settings.Duration("acquire_timeout", cfg.AcquireTimeout),
		settings.Duration("query_timeout", cfg.QueryTimeout),
		slog.Int("max_waiting", cfg.MaxWaiting),
		settings.Duration("dial_timeout", cfg.DialTimeout),
		settings.Duration("fail_fast_after", cfg.FailFastAfter),
		slog.Int("max_dials", cfg.MaxDials),
		settings.Adaptive("suspect_ping", cfg.SuspectPing),
		slog.Bool("disable_reset_on_read_only", cfg.DisableResetOnReadOnly),
		settings.Duration("leak_threshold", cfg.LeakThreshold),
		settings.Duration("reclaim_after", cfg.ReclaimAfter),
		slog.Bool("disable_leak_stacks", cfg.DisableLeakStacks),
		slog.String("start", cfg.Start.String()),
		slog.Int("instances", cfg.Instances),
		slog.Bool("cuts_sockets", m.kind != "db"),
	}
	if m.kind == "postgres" {
		out = append(out,
			slog.Int("max_open_ceiling", cfg.MaxOpenCeiling),
			slog.Bool("disable_peek", cfg.DisablePeek),
			settings.Duration("close_grace", cfg.CloseGrace))
	}
	if m.kind == "postgres" || m.kind == "mysql" {
		out = append(out,
			slog.Bool("tls_given", cfg.TLS != nil),
			slog.Bool("credentials_given", cfg.Credentials != nil),
			slog.Bool("tls_files", cfg.TLSFiles != poolkeeper.TLSFiles{}),
			slog.Bool("credentials_file", cfg.CredentialsFile != ""),
			settings.Duration("file_interval", cfg.FileInterval))
	}
	return out
}
