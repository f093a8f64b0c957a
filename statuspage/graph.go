package statuspage

import (
	"fmt"
	"html/template"
	"strings"

	"github.com/poolkeeper/poolkeeper/internal/plural"
)

// The graph's measures, in pixels.
const (
	boxWidth   = 176.0
	boxHeight  = 46.0
	columnStep = boxWidth + 64
	rowStep    = boxHeight + 16
	perRow     = 4   // nodes without edges stand in rows
	maxGraph   = 150 // components; more are only listed
	maxLabel   = 22  // characters of a name in its box
)

// tone is how a state looks: its colour, and the shape before its name.
func tone(c *Component) string {
	switch c.State {
	case "dead", "failed", "abandoned":
		return "bad"
	case "starting", "draining", "stopping":
		return "busy"
	case "added", "stopped":
		return "off"
	}
	switch c.Health {
	case "fail":
		return "bad"
	case "warn":
		return "warn"
	case "unknown":
		return "busy"
	}
	return "ok"
}

// stateText is the state of a component in words.
func stateText(c *Component) string {
	switch {
	case c.Health == "" || c.Health == "pass" || c.State != "up":
		return c.State
	case c.Health == "fail":
		return c.State + ", failing"
	case c.Health == "warn":
		return c.State + ", degraded"
	}
	return c.State + ", not checked yet"
}

// icon returns the shape of a tone, in a square of 16. The shapes differ without colours, too.
func icon(of string) template.HTML {
	switch of {
	case "ok", "pass":
		return `<path class="i-ok" d="M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Z"/><path class="i-in" d="m4.8 8.2 2.2 2.2 4.2-4.6"/>`
	case "warn":
		return `<path class="i-warn" d="M8 1.5 15 14H1Z"/><path class="i-in" d="M8 6v3.6M8 11.6v.4"/>`
	case "bad", "fail":
		return `<path class="i-bad" d="M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1Z"/><path class="i-in" d="m5.5 5.5 5 5m0-5-5 5"/>`
	case "busy", "unknown":
		return `<path class="i-busy" d="M8 2a6 6 0 1 0 6 6"/><path class="i-busy" d="M8 5v3.2l2 1.4"/>`
	case "info":
		return `<circle class="i-dot" cx="8" cy="8" r="2.5"/>`
	}
	return `<circle class="i-off" cx="8" cy="8" r="5.5"/>`
}

// iconSVG returns the icon as a picture that screen readers skip: the text beside it says the same.
func iconSVG(of string) template.HTML {
	return `<svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">` + icon(of) + `</svg>`
}

// picture returns the graph of the components. It is empty if there are too many components, or none
// depends on another.
func picture(all []Component) template.HTML {
	if len(all) == 0 || len(all) > maxGraph {
		return ""
	}
	index := make(map[string]int, len(all))
	for i := range all {
		index[all[i].Name] = i
	}
	deps := make([][]int, len(all))
	for i := range all {
		for _, name := range all[i].DependsOn {
			if to, ok := index[name]; ok && to != i {
				deps[i] = append(deps[i], to)
			}
		}
	}
	l := arrange(deps)
	if len(l.edges) == 0 {
		return ""
	}
	return draw(all, l)
}

func draw(all []Component, l *layout) template.HTML {
	var b strings.Builder
	columns := max(int(l.width), min(perRow, len(l.alone)))
	for i, n := range l.alone {
		l.nodes[n] = spot{float64(i % columns), l.height + 0.4 + float64(i/columns)}
	}
	height := l.height * rowStep
	if n := len(l.alone); n > 0 {
		height = (l.height + 0.4 + float64((n+columns-1)/columns)) * rowStep
	}
	width := float64(columns)*columnStep - (columnStep - boxWidth)
	class := "graph"
	if l.dense {
		class = "graph dense"
	}
	fmt.Fprintf(&b, `<svg class="%[4]s" viewBox="-1 -1 %[1]g %[2]g" width="%[1]g" height="%[2]g" role="img" aria-label="%[3]s">`,
		width+2, height-(rowStep-boxHeight)+2, template.HTMLEscapeString(summary(all)), class)
	b.WriteString(`<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">` +
		`<path class="tip" d="M0 .5 7.5 4 0 7.5Z"/></marker></defs>`)
	for _, route := range l.routes {
		fmt.Fprintf(&b, `<path class="edge" marker-end="url(#tip)" d="%s"/>`, curve(route))
	}
	for i := range all {
		box(&b, &all[i], l.nodes[i])
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers, constants, and texts that are escaped
}

// curve returns the path from the right edge of the first box to the left edge of the last. It passes
// the spots between them.
func curve(route []spot) string {
	var b strings.Builder
	x, y := route[0].col*columnStep+boxWidth, route[0].row*rowStep+boxHeight/2
	b.WriteString("M" + number(x) + " " + number(y))
	for i, s := range route[1:] {
		toX, toY := s.col*columnStep, s.row*rowStep+boxHeight/2
		bend := min((toX-x)/2, columnStep/2)
		b.WriteString("C" + number(x+bend) + " " + number(y) + " " + number(toX-bend) + " " + number(toY) + " " + number(toX) + " " + number(toY))
		x, y = toX, toY
		if i+2 < len(route) {
			x += boxWidth
			b.WriteString("H" + number(x))
		}
	}
	return b.String()
}

func box(b *strings.Builder, c *Component, at spot) {
	look, radius := tone(c), 6.0
	if c.Ops {
		radius = boxHeight / 2
	}
	name := c.Name
	if r := []rune(name); len(r) > maxLabel {
		name = string(r[:maxLabel-1]) + "…"
	}
	text := stateText(c)
	if c.Ops {
		text += " · ops"
	}
	fmt.Fprintf(b, `<g class="node t-%s" transform="translate(%s %s)"><title>%s</title>`, look,
		number(at.col*columnStep), number(at.row*rowStep), template.HTMLEscapeString(c.Name+": "+text))
	fmt.Fprintf(b, `<rect width="%g" height="%g" rx="%g"/><g transform="translate(12 15)">%s</g>`, boxWidth, boxHeight, radius, icon(look))
	fmt.Fprintf(b, `<text x="36" y="20">%s</text><text class="sub" x="36" y="36">%s</text></g>`,
		template.HTMLEscapeString(name), template.HTMLEscapeString(text))
}

// summary describes the graph in words, for screen readers.
func summary(all []Component) string {
	edges := 0
	var unwell []string
	for i := range all {
		edges += len(all[i].DependsOn)
		if t := tone(&all[i]); t == "bad" || t == "warn" {
			unwell = append(unwell, all[i].Name+" ("+stateText(&all[i])+")")
		}
	}
	text := fmt.Sprintf("Dependency graph: %s, %s.", plural.Of(len(all), "component"), plural.Of(edges, "arrow"))
	if len(unwell) > 0 {
		text += " In trouble: " + strings.Join(unwell, ", ") + "."
	}
	return text + " The table of components has the same in words."
}
