package lifecycle

import (
	"fmt"
	"log/slog"

	"github.com/poolkeeper/poolkeeper/internal/printing"
)

// A registry, and what it makes components of, hold values of the service: pools, servers, things
// to be closed. fmt would print what is inside of them, passwords included, and read it while it
// changes. So these types print what they are, whatever the verb.

// String returns the registry's phase and the number of its components.
func (r *Registry) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	components := 0
	for _, n := range r.nodes {
		if n.comp != nil {
			components++
		}
	}
	return fmt.Sprintf("lifecycle.Registry{%s, components: %d}", r.phase, components)
}

// Format prints what String returns, for every verb.
func (r *Registry) Format(f fmt.State, _ rune) { printing.Format(f, r) }

// LogValue returns what String returns.
func (r *Registry) LogValue() slog.Value { return printing.LogValue(r) }

// String returns the address it listens on.
func (s *Server) String() string {
	if addr := s.Addr(); addr != nil {
		return "lifecycle.Server{" + addr.String() + "}"
	}
	return "lifecycle.Server{not started}"
}

// Format prints what String returns, for every verb.
func (s *Server) Format(f fmt.State, _ rune) { printing.Format(f, s) }

// LogValue returns what String returns.
func (s *Server) LogValue() slog.Value { return printing.LogValue(s) }

// String returns how many goroutines run.
func (g *Group) String() string {
	g.mu.Lock()
	run := g.run
	g.mu.Unlock()
	if run == nil {
		return "lifecycle.Group{not started}"
	}
	return fmt.Sprintf("lifecycle.Group{goroutines: %d}", run.gate.InFlight())
}

// Format prints what String returns, for every verb.
func (g *Group) Format(f fmt.State, _ rune) { printing.Format(f, g) }

// LogValue returns what String returns.
func (g *Group) LogValue() slog.Value { return printing.LogValue(g) }

// String returns the type of what is closed.
func (c *closer) String() string { return fmt.Sprintf("lifecycle.Closer{%T}", c.c) }

// Format prints what String returns, for every verb.
func (c *closer) Format(f fmt.State, _ rune) { printing.Format(f, c) }

// LogValue returns what String returns.
func (c *closer) LogValue() slog.Value { return printing.LogValue(c) }
