package statuspage

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// age is the time from since to now, as a person says it: "41 s", "3 min", "2 h 5 min", "12 d".
func age(now, since time.Time) string {
	if since.IsZero() {
		return "never"
	}
	return seconds(now.Sub(since).Seconds())
}

// seconds is a duration with two or three digits and its unit.
func seconds(s float64) string {
	switch {
	case math.IsNaN(s), s <= 0:
		return "0 s"
	case s <= 10e-6:
		return "≤ 10 µs"
	case s < 0.9995e-3:
		return digits(s*1e6) + " µs"
	case s < 0.9995:
		return digits(s*1e3) + " ms"
	case s < 59.5:
		return digits(s) + " s"
	case s < 99*60:
		return strconv.Itoa(int(s/60+0.5)) + " min"
	case s < 48*3600:
		minutes := int(s/60 + 0.5)
		return fmt.Sprintf("%d h %d min", minutes/60, minutes%60)
	}
	return thousands(uint64(s/86400)) + " d"
}

// digits is f with at most two digits after the point, and three in all.
func digits(f float64) string {
	switch {
	case f >= 9.95:
		return strconv.FormatFloat(f, 'f', 0, 64)
	default:
		return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0")
	}
}

// thousands is n with a narrow space between groups of three digits.
func thousands(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "\u202f" + text[at:]
	}
	return text
}

// clock is the time of day, with the date if that is not today's.
func clock(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	now, t = now.Local(), t.Local()
	if now.YearDay() == t.YearDay() && now.Year() == t.Year() {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04:05")
}
