package statuspage_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/statuspage"
)

// Whatever the text, it adds no element and no attribute to the page, and nothing that cannot be
// seen.
func FuzzTextsStayTexts(f *testing.F) {
	for _, h := range hostile {
		f.Add(h)
	}
	count := func(body string) [3]int {
		return [3]int{strings.Count(body, "<"), strings.Count(body, ">"), strings.Count(body, `"`)}
	}
	page := func(t *testing.T, text string) string {
		t.Helper()
		reg, pool := lifecycle.New(quiet()), &fakePool{}
		pool.holders = []poolkeeper.Holder{{Kind: text, Stack: "f (" + text + ")", Since: time.Now()}}
		pool.settings = []slog.Attr{slog.String("key", text)}
		pool.stats.Members = []poolkeeper.MemberStats{{Name: text, State: "x" + text}}
		reg.Add("pool", pool)
		return get(t, statuspage.New(reg, open()), "/").Body.String()
	}
	plain := ""
	f.Fuzz(func(t *testing.T, text string) {
		if !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsPrint(r) && !unicode.IsSpace(r) }) {
			return // a setting of which nothing can be seen has words of its own
		}
		if plain == "" {
			plain = page(t, "plain")
		}
		body := page(t, text)
		if got, want := count(body), count(plain); got != want && !strings.Contains(body, "***") {
			t.Errorf("%q: %v of < > \", want %v", text, got, want)
		}
		if i := strings.IndexFunc(body, func(r rune) bool { return !unicode.IsPrint(r) && !strings.ContainsRune("\n\t\u202f", r) }); i >= 0 {
			t.Errorf("%q: %q is on the page", text, body[i:i+4])
		}
	})
}
