package event

import (
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
)

// Limits of one key: this many lines at once, and then one each refill.
const (
	burst  = 5
	refill = time.Minute
)

// mostKeys bounds what a Limiter remembers. Keys beyond it share one bucket.
const mostKeys = 128

// Limiter limits how often lines of the same kind are written. Its zero value is ready. It is safe
// for concurrent use.
type Limiter struct {
	mu      sync.Mutex // guards the following
	buckets map[string]*bucket
}

// bucket limits one key.
type bucket struct {
	spent   int           // of burst
	since   monotime.Time // when spent was last brought up to date
	skipped int           // since the last line
}

// Admit reports whether a line may be written under this key, and how many were left out before it.
func (l *Limiter) Admit(key string) (skipped int, ok bool) {
	now := monotime.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucketLocked(key, now)
	if back := int(now.Sub(b.since) / refill); back > 0 {
		b.spent = max(0, b.spent-back)
		b.since = b.since.Add(time.Duration(back) * refill)
	}
	if b.spent >= burst {
		b.skipped++
		return 0, false
	}
	b.spent++
	skipped, b.skipped = b.skipped, 0
	return skipped, true
}

func (l *Limiter) bucketLocked(key string, now monotime.Time) *bucket {
	if l.buckets == nil {
		l.buckets = map[string]*bucket{}
	}
	b := l.buckets[key]
	if b == nil && len(l.buckets) >= mostKeys {
		key = ""
		b = l.buckets[key]
	}
	if b == nil {
		b = &bucket{since: now}
		l.buckets[key] = b
	}
	return b
}
