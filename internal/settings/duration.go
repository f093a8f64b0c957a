package settings

import (
	"log/slog"
	"time"
)

// Or is what a field that may be Off comes to: its default if it is zero, and zero, which means off from here on, if it
// is Off, or anything negative.
func Or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return max(d, 0)
}

// Duration prints one that may be off.
func Duration(key string, d time.Duration) slog.Attr {
	if d == 0 {
		return slog.String(key, "off")
	}
	return slog.Duration(key, d)
}
