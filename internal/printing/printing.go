// Package printing prints values that hold secrets, or that change while they are printed: all that
// they show is what their String returns. fmt, slog and encoding/json would print their fields. It
// also rounds durations for people.
package printing

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Format writes s.String() for every verb: %d would print the fields one by one. It is the body of
// a fmt.Formatter.
func Format(f fmt.State, s fmt.Stringer) { _, _ = io.WriteString(f, s.String()) } // where f goes cannot fail

// LogValue returns s.String(), for slog. It is the body of a slog.LogValuer.
func LogValue(s fmt.Stringer) slog.Value { return slog.StringValue(s.String()) }

// JSON returns s.String() as a JSON string. It is the body of a json.Marshaler.
func JSON(s fmt.Stringer) ([]byte, error) { return json.Marshal(s.String()) }

// Round returns d with as many digits as a person reads: four at most from 10 µs on.
func Round(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond)
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond)
	case d >= 10*time.Microsecond:
		return d.Round(time.Microsecond)
	}
	return d
}
