package sqlpool

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/poolkeeper/poolkeeper/internal/settings"
)

// String prints what is set. URL, which may hold a password, and what cannot be printed, stand as "…" (INV-12); Settings
// of a pool says what is in effect.
func (c Config) String() string { return settings.Config("sqlpool.Config", c, "URL") }

// Format prints String, whatever the verb: %d would print the fields one by one.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue is String, for slog.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// A pool holds passwords, and changes while it is printed. So pools print a line about themselves, whatever the verb.

// printed is what a pool of the given type prints.
func (c *core) printed(kind string) string {
	s := c.stats()
	return fmt.Sprintf("sqlpool.%s{%q, in use: %d of %d}", kind, c.poolName(), s.InUse, s.Max)
}

// String returns the pool's name, and how many of its connections are in use.
func (p *Pool) String() string { return p.c.printed("Pool") }

// Format prints String, whatever the verb.
func (p *Pool) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// LogValue is String, for slog.
func (p *Pool) LogValue() slog.Value { return slog.StringValue(p.String()) }

// String returns the pool's name, and how many of its connections are in use.
func (p *Postgres) String() string { return p.c.printed("Postgres") }

// Format prints String, whatever the verb.
func (p *Postgres) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// LogValue is String, for slog.
func (p *Postgres) LogValue() slog.Value { return slog.StringValue(p.String()) }

// String returns the number of members.
func (r *Replicated) String() string { return r.printed("Replicated") }

// Format prints String, whatever the verb.
func (r *Replicated) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// LogValue is String, for slog.
func (r *Replicated) LogValue() slog.Value { return slog.StringValue(r.String()) }

// String returns the number of members.
func (r *ReplicatedMySQL) String() string { return r.printed("ReplicatedMySQL") }

// Format prints String, whatever the verb.
func (r *ReplicatedMySQL) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// LogValue is String, for slog.
func (r *ReplicatedMySQL) LogValue() slog.Value { return slog.StringValue(r.String()) }

func (r *replication) printed(kind string) string {
	return fmt.Sprintf("sqlpool.%s{members: %d}", kind, len(r.members))
}
