package chart

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// Point is a value of Y from X on.
type Point struct{ X, Y float64 }

// Series is one line. X must not decrease from point to point.
type Series struct {
	Name   string
	Points []Point
}

// Chart is one picture with one line per series. Both axes begin at 0.
type Chart struct {
	Title, X, Y string // captions; any text
	Series      []Series
}

// maxSeries is how many colours there are.
const maxSeries = 4

// Validate returns every fault of c, joined: no point at all, too many series, a point with a
// negative or infinite coordinate, or one that lies before its predecessor.
func (c Chart) Validate() error {
	var errs []error
	points := 0
	if len(c.Series) > maxSeries {
		errs = append(errs, fmt.Errorf("chart: %d series; at most %d can be told apart", len(c.Series), maxSeries))
	}
	for _, s := range c.Series {
		points += len(s.Points)
		for i, p := range s.Points {
			if !drawable(p.X) || !drawable(p.Y) {
				errs = append(errs, fmt.Errorf("chart: series %q: point %d is (%v, %v)", s.Name, i, p.X, p.Y))
			}
			if i > 0 && p.X < s.Points[i-1].X {
				errs = append(errs, fmt.Errorf("chart: series %q: point %d at %v comes after one at %v", s.Name, i, p.X, s.Points[i-1].X))
			}
		}
	}
	if points == 0 {
		errs = append(errs, errors.New("chart: no points"))
	}
	return errors.Join(errs...)
}

func drawable(v float64) bool { return v >= 0 && !math.IsInf(v, 0) } // NaN is not >= 0

// WriteSVG writes c as a document of its own, with a white ground, so that it can be read on a dark
// page too. It returns the faults of c, before anything is written, or the error of w.
func (c Chart) WriteSVG(w io.Writer) error {
	if err := c.Validate(); err != nil {
		return err
	}
	var maxX, maxY float64
	for _, s := range c.Series {
		for _, p := range s.Points {
			maxX, maxY = max(maxX, p.X), max(maxY, p.Y)
		}
	}
	d := drawing{x: axisTo(maxX), y: axisTo(maxY)}
	d.frame(c)
	for i, s := range c.Series {
		d.line(i, s)
	}
	d.add("</svg>\n")
	_, err := io.WriteString(w, d.out.String())
	return err
}

// axis is a scale from 0 to end, with a tick at each multiple of step.
type axis struct{ step, end float64 }

// axisTo returns an axis that reaches limit with four to ten steps of 1, 2 or 5 times a power of
// ten.
func axisTo(limit float64) axis {
	if limit <= 0 {
		limit = 1
	}
	power := math.Pow(10, math.Floor(math.Log10(limit))-1)
	for _, factor := range []float64{1, 2, 5, 10, 20} {
		step := factor * power
		if n := math.Ceil(limit/step - 1e-9); n <= 10 {
			return axis{step: step, end: n * step}
		}
	}
	return axis{step: limit, end: limit} // only for rounding's sake
}

// ticks are the values at which the axis is marked.
func (a axis) ticks() []float64 {
	n := int(math.Round(a.end / a.step))
	out := make([]float64, n+1)
	for i := range out {
		out[i] = float64(i) * a.step
	}
	return out
}
