package chart

import (
	"fmt"
	"html"
	"strconv"
	"strings"
)

// Sizes in pixels: the picture, and the field between the axes within it.
const (
	width, height            = 720, 360
	left, right, top, bottom = 64, 700, 48, 308
)

// colours can be told apart by the colour-blind too (Okabe and Ito).
var colours = [maxSeries]string{"#d55e00", "#0072b2", "#009e73", "#cc79a7"} //nolint:gochecknoglobals // a constant

// drawing is an SVG document in the making.
type drawing struct {
	x, y axis
	out  strings.Builder
}

func (d *drawing) add(format string, args ...any) { fmt.Fprintf(&d.out, format, args...) }

// across and up are where a value is in the picture.
func (d *drawing) across(v float64) string { return number(left + v/d.x.end*(right-left)) }
func (d *drawing) up(v float64) string     { return number(bottom - v/d.y.end*(bottom-top)) }

// number has at most two decimals: a hundredth of a pixel.
func number(v float64) string {
	s := strings.TrimRight(strconv.FormatFloat(v, 'f', 2, 64), "0")
	return strings.TrimSuffix(s, ".")
}

// frame draws everything but the lines.
func (d *drawing) frame(c Chart) {
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" `+
		`font-family="sans-serif" font-size="12" fill="#333">`+"\n", width, height, width, height)
	d.add("<title>%s</title>\n", html.EscapeString(c.Title))
	d.add(`<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	d.add(`<text x="%d" y="22" font-size="14" font-weight="bold">%s</text>`+"\n", left, html.EscapeString(c.Title))
	for _, v := range d.y.ticks() {
		d.add(`<path d="M%d %sH%d" stroke="#ddd"/>`, left, d.up(v), right)
		d.add(`<text x="%d" y="%s" dy="4" text-anchor="end">%s</text>`+"\n", left-8, d.up(v), label(v))
	}
	for _, v := range d.x.ticks() {
		d.add(`<path d="M%s %dv5" stroke="#333"/>`, d.across(v), bottom)
		d.add(`<text x="%s" y="%d" text-anchor="middle">%s</text>`+"\n", d.across(v), bottom+20, label(v))
	}
	d.add(`<path d="M%d %dH%d" stroke="#333"/>`+"\n", left, bottom, right)
	d.add(`<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (left+right)/2, height-12, html.EscapeString(c.X))
	d.add(`<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (top+bottom)/2, html.EscapeString(c.Y))
}

func label(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// line draws a series as steps, for a count holds until it changes, and its entry in the legend.
func (d *drawing) line(i int, s Series) {
	var path strings.Builder
	for j, p := range s.Points {
		if j == 0 {
			path.WriteString("M" + d.across(p.X) + " " + d.up(p.Y))
			continue
		}
		path.WriteString("H" + d.across(p.X))
		if p.Y != s.Points[j-1].Y {
			path.WriteString("V" + d.up(p.Y))
		}
	}
	const entry, sample = 150, 24 // of the legend
	x := right - entry*(maxSeries-i)
	d.add(`<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", path.String(), colours[i])
	d.add(`<path d="M%d 36h%d" stroke="%s" stroke-width="2"/>`, x, sample, colours[i])
	d.add(`<text x="%d" y="40">%s</text>`+"\n", x+sample+6, html.EscapeString(s.Name))
}
