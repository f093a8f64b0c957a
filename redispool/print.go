package redispool

import (
	"fmt"
	"log/slog"

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
