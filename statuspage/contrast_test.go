package statuspage_test

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/statuspage"
)

// The colours of both schemes have the contrast that WCAG 2.2 AA asks of text (1.4.3, 4.5 to 1) and
// of what has a meaning without being text (1.4.11, 3 to 1).
func TestColoursHaveTheContrastOfAA(t *testing.T) {
	light, dark, _ := strings.Cut(statuspage.Style, "prefers-color-scheme: dark")
	dark, _, _ = strings.Cut(dark, "* {")
	for scheme, css := range map[string]string{"light": light, "dark": dark} {
		colours := coloursOf(css)
		check := func(front, back string, least float64) {
			t.Helper()
			a, b := colours[front], colours[back]
			if a == "" || b == "" {
				t.Fatalf("%s: %s or %s is not defined", scheme, front, back)
			}
			if c := contrast(a, b); c < least {
				t.Errorf("%s: %s on %s has %.2f to 1, want %.1f", scheme, front, back, c, least)
			}
		}
		for _, text := range []string{"text", "muted", "link", "bad", "warn"} {
			check(text, "bg", 4.5)
			check(text, "panel", 4.5)
		}
		for _, shape := range []string{"ok", "warn", "bad", "busy", "off", "plot", "link", "muted"} {
			check(shape, "bg", 3)
			check(shape, "panel", 3)
		}
		for _, filled := range []string{"ok", "warn", "bad"} {
			check("on", filled, 3) // the sign within
		}
	}
}

func TestContrastIsThatOfTheStandard(t *testing.T) {
	for pair, want := range map[[2]string]float64{{"#000000", "#ffffff"}: 21, {"#777777", "#ffffff"}: 4.48, {"#ffffff", "#ffffff"}: 1} {
		if got := contrast(pair[0], pair[1]); math.Abs(got-want) > 0.01 {
			t.Errorf("%v: %.3f, want %.2f", pair, got, want)
		}
	}
}

func coloursOf(css string) map[string]string {
	out := map[string]string{}
	for _, m := range regexp.MustCompile(`--([a-z]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(css, -1) {
		out[m[1]] = m[2]
	}
	return out
}

// contrast is the contrast ratio of WCAG 2.2.
func contrast(a, b string) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// luminance is the relative luminance of WCAG 2.2.
func luminance(hex string) float64 {
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, _ := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
