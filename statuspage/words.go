package statuspage

import (
	"strings"
	"unicode"

	"github.com/poolkeeper/poolkeeper/internal/callsite"
	"github.com/poolkeeper/poolkeeper/internal/redact"
)

// words cleans texts of other code for the page: one printable line without recognisable secrets. It
// caches results, because settings are the same at each sample. The caller locks.
type words struct {
	seen map[string]string
}

// Bounds of the texts that are remembered: how many, and each one's length in bytes.
const (
	maxRemembered = 10_000
	maxKept       = 256
)

func newWords() *words { return &words{seen: make(map[string]string)} }

func (w *words) clean(s string) string {
	if s == "" {
		return ""
	}
	if out, ok := w.seen[s]; ok {
		return out
	}
	if len(w.seen) >= maxRemembered {
		clear(w.seen)
	}
	out := redact.Text(s)
	if len(s) > maxKept {
		return out
	}
	w.seen[strings.Clone(s)] = out
	return out
}

func (w *words) cleanAll(all []string) []string {
	var out []string
	for _, s := range all {
		out = append(out, w.clean(s))
	}
	return out
}

// value cleans a setting, whose key may say that it is a secret.
func (w *words) value(key, value string) string {
	if value == "" {
		return ""
	}
	if out, ok := strings.CutPrefix(w.clean(key+"="+value), key+"="); ok {
		return out
	}
	return "***"
}

// maxStack bounds a stack in bytes.
const maxStack = 8 << 10

// lines cleans a stack, which has several lines and no secrets.
func (w *words) lines(stack string) string {
	if len(stack) > maxStack {
		stack = stack[:maxStack]
	}
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(stack, "?"))
}

// site returns the innermost place of a stack.
func (w *words) site(stack string) string { return w.lines(callsite.Of(stack)) }
