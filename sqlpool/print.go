package sqlpool

import (
	"fmt"
	"log/slog"

	"github.com/poolkeeper/poolkeeper/internal/printing"
)

// A pool holds passwords, and changes while it is printed. So pools print a line about themselves,
// whatever the verb.

// printed is what a pool prints.
func (m *manager) printed() string {
	kind := map[string]string{"postgres": "Postgres", "mysql": "MySQL", "db": "DB", "adopted": "Adopted"}[m.kind]
	s := m.stats()
	return fmt.Sprintf("sqlpool.%s{%q, in use: %d of %d}", kind, m.poolName(), s.InUse, s.Max)
}

// String returns the pool's name, and how many of its connections are in use.
func (b *component) String() string { return b.m.printed() }

// Format prints String, whatever the verb.
func (b *component) Format(f fmt.State, _ rune) { printing.Format(f, b) }

// LogValue is String, for slog.
func (b *component) LogValue() slog.Value { return printing.LogValue(b) }

// MarshalJSON returns String as a JSON string.
func (b *component) MarshalJSON() ([]byte, error) { return printing.JSON(b) }
