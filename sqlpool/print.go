package sqlpool

import (
	"fmt"
	"log/slog"

	"github.com/poolkeeper/poolkeeper/internal/printing"
)

// A pool holds passwords, and changes while it is printed. So pools print a line about themselves,
// whatever the verb.

// printed is what a pool of the given type prints.
func (c *core) printed() string {
	kind := map[string]string{"postgres": "Postgres", "mysql": "MySQL", "db": "DB", "adopted": "Adopted"}[c.kind]
	s := c.stats()
	return fmt.Sprintf("sqlpool.%s{%q, in use: %d of %d}", kind, c.poolName(), s.InUse, s.Max)
}

// String returns the pool's name, and how many of its connections are in use.
func (p *pool) String() string { return p.c.printed() }

// Format prints String, whatever the verb.
func (p *pool) Format(f fmt.State, _ rune) { printing.Format(f, p) }

// LogValue is String, for slog.
func (p *pool) LogValue() slog.Value { return printing.LogValue(p) }

// MarshalJSON returns String as a JSON string.
func (p *pool) MarshalJSON() ([]byte, error) { return printing.JSON(p) }

// String returns the handle's name, and how many of its connections are in use.
func (a *Adopted) String() string { return a.c.printed() }

// Format prints String, whatever the verb.
func (a *Adopted) Format(f fmt.State, _ rune) { printing.Format(f, a) }

// LogValue is String, for slog.
func (a *Adopted) LogValue() slog.Value { return printing.LogValue(a) }

// MarshalJSON returns String as a JSON string.
func (a *Adopted) MarshalJSON() ([]byte, error) { return printing.JSON(a) }
