package redispool

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// String prints what is set. URL, which may hold a password, and what cannot be printed, stand as "…" (INV-12); Settings
// of a pool says what is in effect.
func (c Config) String() string { return settings.Config("redispool.Config", c, "URL") }

// Format prints String, whatever the verb: %d would print the fields one by one.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue is String, for slog.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }
