package statuspage

import (
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// The pure functions, for tests that compare them with naive twins.
var (
	Since    = since
	Quantile = quantile
	Seconds  = seconds
	Apart    = apart
	Style    = styleCSS
)

// Arranged is where a graph's nodes stand.
type Arranged struct {
	Spots  [][2]float64 // column and row of each node
	Routes [][][2]float64
	Edges  [][2]int
	Alone  []int
}

// Arrange is arrange.
func Arrange(deps [][]int) Arranged {
	l := arrange(deps)
	out := Arranged{Edges: l.edges, Alone: l.alone}
	for _, s := range l.nodes {
		out.Spots = append(out.Spots, [2]float64{s.col, s.row})
	}
	for _, r := range l.routes {
		var route [][2]float64
		for _, s := range r {
			route = append(route, [2]float64{s.col, s.row})
		}
		out.Routes = append(out.Routes, route)
	}
	return out
}

// Line is the path through heights from 0 to 1, NaN for a gap.
func Line(heights []float64) string {
	points := make([]xy, len(heights))
	for i, h := range heights {
		points[i] = xy{x: float64(i), y: h, gap: h != h}
	}
	return line(points)
}

// SampleOnce takes one sample now, as the timer does.
func (p *Page) SampleOnce(now time.Time) { p.sample(now) }

// Waits is a sample's view of two moments.
func Waits(now, before poolkeeper.Histogram) (n uint64, p50, p99 float64) {
	h := newHistory(2)
	h.advance(time.Now())
	h.addPool("p", time.Now(), &poolkeeper.Stats{Wait: before})
	h.advance(time.Now())
	h.addPool("p", time.Now(), &poolkeeper.Stats{Wait: now})
	p := h.series["p"].points[1]
	return p.measured, p.p50, p.p99
}

// LateViewer publishes a part's first text, lets a viewer join that has seen the second by itself,
// publishes the third, and returns what the viewer is sent.
func LateViewer(first, third string) string {
	v := newViewers(1)
	v.open()
	v.publish(momentOf(first))
	w, _, _ := v.join()
	v.publish(momentOf(third))
	return string(v.take(w))
}

// SlowViewer publishes three texts of a part to a viewer that reads only after the last.
func SlowViewer(texts ...string) string {
	v := newViewers(1)
	v.open()
	w, _, _ := v.join()
	for i, text := range texts {
		v.publish(momentOf(text, "another part"))
		if i == 0 {
			v.take(w)
		}
	}
	return string(v.take(w))
}

func momentOf(texts ...string) *moment {
	m := &moment{}
	for _, text := range texts {
		m.parts = append(m.parts, part{"id", []byte(text)})
	}
	m.all = m.events
	return m
}
