package sqlpool

import (
	"fmt"
	"log/slog"

	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// String prints the fields that are set. It prints "…" in place of URL, which may hold a password,
// and of values that cannot be printed. Settings of a pool returns the values in effect.
func (c Config) String() string { return settings.Config("sqlpool.Config", c, "URL") }

// Format prints String, whatever the verb: %d would print the fields one by one.
func (c Config) Format(f fmt.State, _ rune) { printing.Format(f, c) }

// LogValue is String, for slog.
func (c Config) LogValue() slog.Value { return printing.LogValue(c) }

// MarshalJSON returns String as a JSON string.
func (c Config) MarshalJSON() ([]byte, error) { return printing.JSON(c) }

// A pool holds passwords, and changes while it is printed. So pools print a line about themselves,
// whatever the verb.

// printed is what a pool of the given type prints.
func (c *core) printed(kind string) string {
	s := c.stats()
	return fmt.Sprintf("sqlpool.%s{%q, in use: %d of %d}", kind, c.poolName(), s.InUse, s.Max)
}

// String returns the pool's name, and how many of its connections are in use.
func (p *Pool) String() string { return p.c.printed("Pool") }

// Format prints String, whatever the verb.
func (p *Pool) Format(f fmt.State, _ rune) { printing.Format(f, p) }

// LogValue is String, for slog.
func (p *Pool) LogValue() slog.Value { return printing.LogValue(p) }

// MarshalJSON returns String as a JSON string.
func (p *Pool) MarshalJSON() ([]byte, error) { return printing.JSON(p) }

// String returns the pool's name, and how many of its connections are in use.
func (p *Postgres) String() string { return p.c.printed("Postgres") }

// Format prints String, whatever the verb.
func (p *Postgres) Format(f fmt.State, _ rune) { printing.Format(f, p) }

// LogValue is String, for slog.
func (p *Postgres) LogValue() slog.Value { return printing.LogValue(p) }

// MarshalJSON returns String as a JSON string.
func (p *Postgres) MarshalJSON() ([]byte, error) { return printing.JSON(p) }
