package sqlpool

import (
	"fmt"
	"log/slog"

	"github.com/poolkeeper/poolkeeper/internal/printing"
)

// A pool holds passwords, and changes while it is printed. So pools print a line about themselves,
// whatever the verb.

// printed is what a pool prints.
func (c *core) printed() string {
	kind := map[string]string{"postgres": "Postgres", "mysql": "MySQL", "db": "DB", "adopted": "Adopted"}[c.kind]
	s := c.stats()
	return fmt.Sprintf("sqlpool.%s{%q, in use: %d of %d}", kind, c.poolName(), s.InUse, s.Max)
}

// String returns the pool's name, and how many of its connections are in use.
func (b *base) String() string { return b.c.printed() }

// Format prints String, whatever the verb.
func (b *base) Format(f fmt.State, _ rune) { printing.Format(f, b) }

// LogValue is String, for slog.
func (b *base) LogValue() slog.Value { return printing.LogValue(b) }

// MarshalJSON returns String as a JSON string.
func (b *base) MarshalJSON() ([]byte, error) { return printing.JSON(b) }
