package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/printing"
	"github.com/poolkeeper/poolkeeper/lifecycle/event"
)

// Graph returns the components and their dependencies as a Mermaid flowchart: an arrow points to
// what is depended on. Boxes show the state, and how long it took to come up or go down; thick ones
// were on the critical path of the last start or shutdown.
func (r *Registry) Graph() string {
	s := r.Status()
	ids := make(map[string]string, len(s.Components))
	for i, c := range s.Components {
		if _, taken := ids[c.Name]; !taken {
			ids[c.Name] = fmt.Sprintf("c%d", i)
		}
	}
	var b strings.Builder
	b.WriteString("flowchart TD\n")
	for i, c := range s.Components {
		open, shut := "[", "]"
		if c.Ops {
			open, shut = "([", "])"
		}
		fmt.Fprintf(&b, "  c%d%s\"%s\"%s:::%s\n", i, open, c.label(), shut, c.shown())
	}
	for i, c := range s.Components {
		for _, d := range c.DependsOn {
			if id, ok := ids[d]; ok {
				fmt.Fprintf(&b, "  c%d --> %s\n", i, id)
			}
		}
	}
	writeCritical(&b, &s, ids)
	for _, style := range mermaidStyles {
		b.WriteString("  " + style + "\n")
	}
	return b.String()
}

// mermaidStyles give every state a colour that can be told apart without seeing colours: by its
// border.
//
//nolint:gochecknoglobals // a constant table
var mermaidStyles = []string{
	"classDef added fill:#eee,stroke:#999",
	"classDef starting,draining,stopping fill:#fff3cd,stroke:#b58900,stroke-dasharray:4",
	"classDef up,completed fill:#d4edda,stroke:#2e7d32",
	"classDef stopped fill:#e2e3e5,stroke:#555",
	"classDef dead,failed,abandoned fill:#f8d7da,stroke:#b71c1c,stroke-dasharray:2",
	"classDef critical stroke-width:4px",
}

func writeCritical(b *strings.Builder, s *Status, ids map[string]string) {
	report := s.Start
	if s.Shutdown != nil {
		report = s.Shutdown
	}
	if report == nil || len(report.Critical) == 0 {
		return
	}
	critical := make([]string, 0, len(report.Critical))
	for _, name := range report.Critical {
		if id, ok := ids[name]; ok {
			critical = append(critical, id)
		}
	}
	fmt.Fprintf(b, "  class %s critical\n", strings.Join(critical, ","))
}

// shown is the state to show: a component whose start failed has failed, also once what it held was
// released.
func (c *ComponentStatus) shown() State {
	if c.State == StateStopped && c.Up.Outcome != event.OutcomeNone && c.Up.Outcome != event.OutcomeOK {
		return StateFailed
	}
	return c.State
}

func (c *ComponentStatus) label() string {
	parts := []string{mermaidText(c.Name), c.shown().String()}
	up := "up in"
	if c.shown() == StateFailed {
		up = "after"
	}
	for _, t := range []struct {
		word string
		took time.Duration
	}{{up, c.Up.Took}, {"down in", c.Down.Took}} {
		if t.took > 0 {
			parts = append(parts, t.word+" "+printing.Round(t.took).String())
		}
	}
	return strings.Join(parts, "<br/>")
}

// mermaidText writes what Mermaid would read as markup as entity codes.
func mermaidText(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\"#;<>&`\\", r) || r < ' ' {
			fmt.Fprintf(&b, "#%d;", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
