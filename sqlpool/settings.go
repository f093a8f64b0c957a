package sqlpool

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// effective lists what is in effect. It names no server and no user: those are part of URL, and URL is not printed.
func (c *core) effective(cuts bool) []slog.Attr {
	cfg := c.cfg()
	return []slog.Attr{
		slog.String("kind", c.kind),
		slog.Int("max_open", cfg.MaxOpen),
		slog.Int("max_open_ceiling", cfg.MaxOpenCeiling),
		slog.Int("min_idle", cfg.MinIdle),
		durationAttr("max_idle_time", cfg.MaxIdleTime),
		durationAttr("max_lifetime", cfg.MaxLifetime),
		slog.Float64("lifetime_jitter", cfg.LifetimeJitter),
		durationAttr("keep_alive", cfg.KeepAlive),
		durationAttr("eviction_interval", cfg.EvictionInterval),
		durationAttr("acquire_timeout", cfg.AcquireTimeout),
		durationAttr("dial_timeout", cfg.DialTimeout),
		slog.Int("max_dials", cfg.MaxDials),
		durationAttr("suspect_ping", cfg.SuspectPing),
		slog.Bool("recycle_read_only", cfg.RecycleReadOnly == Enabled),
		slog.Bool("peek", cfg.Peek == Enabled),
		durationAttr("close_grace", cfg.CloseGrace),
		durationAttr("leak_threshold", cfg.LeakThreshold),
		durationAttr("reclaim_after", cfg.ReclaimAfter),
		slog.Bool("leak_stacks", cfg.LeakStacks == StacksOn),
		slog.String("start", cfg.Start.String()),
		slog.Int("replicas", cfg.Replicas),
		slog.Bool("tls_given", cfg.TLS != nil),
		slog.Bool("credentials_given", cfg.Credentials != nil),
		slog.Bool("tls_files", cfg.TLSFiles != TLSFiles{}),
		slog.Bool("credentials_file", cfg.CredentialsFile != ""),
		durationAttr("file_interval", cfg.FileInterval),
		slog.Bool("cuts_sockets", cuts),
	}
}

func durationAttr(key string, d time.Duration) slog.Attr {
	if d == 0 {
		return slog.String(key, "off")
	}
	return slog.Duration(key, d)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func duration(nanos int64) time.Duration { return time.Duration(nanos) }

func sortedKeys(m map[string]bool) []string { return slices.Sorted(maps.Keys(m)) }
