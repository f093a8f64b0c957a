package chart_test

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/chart"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func svg(t *testing.T, c chart.Chart) string {
	t.Helper()
	var out strings.Builder
	if err := c.WriteSVG(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// elements parses the document and returns the attribute or, for "", the text of every element of
// that name.
func elements(t *testing.T, document, name, attribute string) []string {
	t.Helper()
	var out []string
	d := xml.NewDecoder(strings.NewReader(document))
	inside := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, document)
		}
		switch e := token.(type) {
		case xml.StartElement:
			inside = e.Name.Local == name
			for _, a := range e.Attr {
				if inside && a.Name.Local == attribute {
					out = append(out, a.Value)
				}
			}
		case xml.CharData:
			if inside && attribute == "" {
				out = append(out, string(e))
			}
		case xml.EndElement:
			inside = false
		}
	}
}

func TestPointsAreWhereTheAxesSayTheyAre(t *testing.T) {
	c := chart.Chart{Title: "T", X: "s", Y: "n", Series: []chart.Series{
		{Name: "raw", Points: []chart.Point{{0, 100}, {10, 100}}},
		{Name: "managed", Points: []chart.Point{{0, 100}, {2.5, 50}, {5, 50}, {10, 0}}},
	}}
	document := svg(t, c)
	paths := strings.Join(elements(t, document, "path", "d"), "\n") + "\n"
	for _, want := range []string{"M64 48H700\n", "M64 48H223V178H382H700V308\n"} { // the field is 64 to 700 by 48 to 308
		if !strings.Contains(paths, want) {
			t.Errorf("no line %q in\n%s", want, paths)
		}
	}
	texts := strings.Join(elements(t, document, "text", ""), "|")
	for _, want := range []string{"T|0|10|20|", "|90|100|0|1|2|", "|9|10|s|n|raw|managed"} {
		if !strings.Contains(texts, want) {
			t.Errorf("no %q in %s", want, texts)
		}
	}
	if again := svg(t, c); again != document {
		t.Error("the same data made another document")
	}
}

func TestAxesReachEveryLimitWithFewTicks(t *testing.T) {
	for _, limit := range []float64{0, 0.03, 0.7, 1, 6, 9.99, 10, 11, 99, 100, 101, 303, 1003, 2500, 1e6} {
		document := svg(t, chart.Chart{Series: []chart.Series{{Points: []chart.Point{{0, limit}}}}})
		ticks := 0
		for _, anchor := range elements(t, document, "text", "text-anchor") {
			if anchor == "end" { // those of the y axis
				ticks++
			}
		}
		if ticks < 4 || ticks > 11 {
			t.Errorf("limit %v: %d ticks", limit, ticks)
		}
		for _, d := range elements(t, document, "path", "d") {
			if strings.Contains(d, "-") || strings.Contains(d, "N") {
				t.Errorf("limit %v: path %q leaves the picture", limit, d)
			}
		}
	}
}

func TestCaptionsAreEscaped(t *testing.T) {
	const nasty = `<script>"&'`
	document := svg(t, chart.Chart{Title: nasty, X: nasty, Y: nasty, Series: []chart.Series{{Name: nasty, Points: []chart.Point{{1, 1}}}}})
	if strings.Contains(document, "<script") {
		t.Error("a caption has become an element")
	}
	if got := elements(t, document, "title", ""); len(got) == 0 || strings.Join(got, "") != nasty {
		t.Errorf("title %q", got)
	}
}

func TestEveryFaultIsToldAndNothingWritten(t *testing.T) {
	c := chart.Chart{Series: []chart.Series{
		{Name: "a", Points: []chart.Point{{2, 1}, {1, 1}}},
		{Name: "b", Points: []chart.Point{{0, math.NaN()}}},
		{Name: "c", Points: []chart.Point{{math.Inf(1), 0}}},
		{Name: "d", Points: []chart.Point{{0, -1}}},
		{Name: "e"},
	}}
	var out strings.Builder
	err := c.WriteSVG(&out)
	if err == nil || out.Len() > 0 {
		t.Fatalf("WriteSVG = %v after %d bytes", err, out.Len())
	}
	for _, want := range []string{`"a": point 1`, `"b": point 0`, `"c": point 0`, `"d": point 0`, "5 series"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %s", err, want)
		}
	}
	if err := (chart.Chart{}).Validate(); err == nil {
		t.Error("a chart of nothing is valid")
	}
}
