package statuspage

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// The size of a chart in its own units; the page stretches it.
const (
	chartWidth  = 600.0
	chartHeight = 80.0
)

// chart is one chart of a pool, with its text for screen readers.
type chart struct {
	Title  string
	Note   string // what the time shown was like, in words
	Label  string // all of it in one sentence
	Top    string // what the upper edge means
	Middle string
	Bottom string
	SVG    template.HTML
}

// xy is one point of a line. A gap ends the line.
type xy struct {
	x, y float64
	gap  bool
}

// line is a path through points, the oldest first. Points amid others of the same height are left
// out.
func line(points []xy) string {
	var b strings.Builder
	drawing := false
	for i, p := range points {
		if p.gap {
			drawing = false
			continue
		}
		within := drawing && i+1 < len(points) && !points[i+1].gap && points[i-1].y == p.y && points[i+1].y == p.y
		if within {
			continue
		}
		command := "L"
		if !drawing {
			command = "M"
		}
		b.WriteString(command + number(p.x) + " " + number(p.y))
		if !drawing && (i+1 == len(points) || points[i+1].gap) {
			b.WriteString("h1") // a point alone would not be seen
		}
		drawing = true
	}
	return b.String()
}

// area is the path around what is below points.
func area(points []xy) string {
	var b strings.Builder
	for begin := 0; begin < len(points); {
		end := begin
		for end < len(points) && !points[end].gap {
			end++
		}
		if end > begin {
			b.WriteString(line(points[begin:end]))
			b.WriteString("V" + number(chartHeight) + "H" + number(points[begin].x) + "Z")
		}
		begin = end + 1
	}
	return b.String()
}

// number prints a coordinate with one digit after the point.
func number(f float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0")
}

// svg puts paths, each a class and its data, into a picture with a label.
func svg(label string, paths ...[2]string) template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="plot" viewBox="0 0 %g %g" preserveAspectRatio="none" role="img" aria-label="%s">`,
		chartWidth, chartHeight, template.HTMLEscapeString(label))
	fmt.Fprintf(&b, `<path class="grid" d="M0 .5H%[1]gM0 %[2]gH%[1]g"/>`, chartWidth, chartHeight/2)
	for _, p := range paths {
		if p[1] != "" {
			fmt.Fprintf(&b, `<path class="%s" d="%s"/>`, p[0], p[1])
		}
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers, constants, and a label that is escaped
}

// span is the part of the past that a chart shows: the points of one pool, and their places.
type span struct {
	points []point
	xs     []float64
	window time.Duration
}

func (h *history) span(name string, now time.Time, window time.Duration) span {
	s := span{window: window}
	h.each(h.series[name], func(at time.Time, p point) {
		x := chartWidth * (1 - now.Sub(at).Seconds()/window.Seconds())
		s.points, s.xs = append(s.points, p), append(s.xs, min(max(x, 0), chartWidth))
	})
	return s
}

// trace makes a line of one value of each point.
func (s *span) trace(of func(p point) (height float64, ok bool)) []xy {
	out := make([]xy, len(s.points))
	for i, p := range s.points {
		height, ok := of(p)
		out[i] = xy{x: s.xs[i], y: chartHeight * (1 - min(max(height, 0), 1)), gap: !p.ok || !ok}
	}
	return out
}

// charts returns the charts of one pool.
func (s *span) charts() []chart {
	if len(s.points) == 0 {
		return nil
	}
	return []chart{s.use(), s.waiting(), s.latency()}
}

// span in words.
func (s *span) past() string { return "the last " + seconds(s.window.Seconds()) }

func (s *span) use() chart {
	last := s.points[len(s.points)-1]
	top, most := int32(1), int32(0)
	for _, p := range s.points {
		top, most = max(top, p.max, p.inUse+p.idle), max(most, p.inUse)
	}
	inUse := s.trace(func(p point) (float64, bool) { return float64(p.inUse) / float64(top), true })
	open := s.trace(func(p point) (float64, bool) { return float64(p.inUse+p.idle) / float64(top), true })
	limit := s.trace(func(p point) (float64, bool) { return float64(p.max) / float64(top), p.max > 0 })
	label := fmt.Sprintf("Connections in %s: %d in use now, %d at most", s.past(), last.inUse, most)
	if last.max > 0 {
		label += fmt.Sprintf(", limit %d", last.max)
	}
	return chart{
		Title: "Connections", Note: fmt.Sprintf("at most %d in use", most), Label: label,
		Top: strconv.Itoa(int(top)), Bottom: "0",
		SVG: svg(label, [2]string{"area soft", area(open)}, [2]string{"area", area(inUse)}, [2]string{"line", line(inUse)},
			[2]string{"limit", line(limit)}),
	}
}

func (s *span) waiting() chart {
	last, top, most := s.points[len(s.points)-1], int32(4), int32(0)
	for _, p := range s.points {
		top, most = max(top, p.waiting), max(most, p.waiting)
	}
	waiting := s.trace(func(p point) (float64, bool) { return float64(p.waiting) / float64(top), true })
	note := fmt.Sprintf("at most %d", most)
	paths := [][2]string{{"area warn", area(waiting)}, {"line warn", line(waiting)}}
	if most == 0 {
		note, paths = "none", [][2]string{{"line none", line(waiting)}}
	}
	label := fmt.Sprintf("Callers waiting in %s: %d now, %d at most", s.past(), last.waiting, most)
	return chart{
		Title: "Waiting callers", Note: note, Label: label, Top: strconv.Itoa(int(top)), Bottom: "0",
		SVG: svg(label, paths...),
	}
}

// The scale of latency is logarithmic, and the same for every pool, so that two can be compared.
const (
	fastest = -5.0 // 10 µs
	slowest = 1.0  // 10 s
)

func (s *span) latency() chart {
	height := func(v float64) float64 {
		return (math.Log10(max(v, 1e-9)) - fastest) / (slowest - fastest)
	}
	p50 := s.trace(func(p point) (float64, bool) { return height(p.p50), p.measured > 0 })
	p99 := s.trace(func(p point) (float64, bool) { return height(p.p99), p.measured > 0 })
	worst := 0.0
	for _, p := range s.points {
		worst = max(worst, p.p99)
	}
	note, label := "no waits", "Wait for a connection in "+s.past()+": none was measured"
	if worst > 0 {
		note = "highest p99 " + seconds(worst) + "; dotted: p50"
		label = "Wait for a connection in " + s.past() + ": highest p99 " + seconds(worst)
	}
	return chart{
		Title: "Wait for a connection", Note: note, Label: label, Top: "10 s", Middle: "10 ms", Bottom: "10 µs",
		SVG: svg(label, [2]string{"line second", line(p50)}, [2]string{"line", line(p99)}),
	}
}
