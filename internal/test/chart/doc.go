// Package chart draws counts over time as an SVG document: what the benchmarks have measured, for
// the pages in docs.
//
//	 100 ┤────────────────────── raw
//	     │        ╲
//	   6 ┤         ───────────── managed
//	     └────┬────┬────┬────┬──
//	          1    2    3    4  s
//
//	err := chart.Chart{Title: "Connections", X: "seconds", Y: "open", Series: series}.WriteSVG(file)
//
// The same data make the same bytes, so that a chart under version control changes only when its
// data do. It refuses what a count over time cannot be: infinite values, and points that go back in
// time.
package chart
