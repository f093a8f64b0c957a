package sqlpool

import (
	"log/slog"

	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// String prints what is set. URL, which may hold a password, and what cannot be printed, stand as "…" (INV-12); Settings
// of a pool says what is in effect.
func (c Config) String() string { return settings.Config("sqlpool.Config", c, "URL") }

// GoString is String, for %#v.
func (c Config) GoString() string { return c.String() }

// LogValue is String, for slog.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }
