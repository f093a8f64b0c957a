package term_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/term"
)

// Whatever a service writes, nothing of it moves the cursor or turns the direction of the text, and
// letters stay as they are.
func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"plain, größer", "\x1b[2J\x07", "\u009b31m", "a\u202eb\u2066c\u200fd\u061c", "\u2028\u2029", "\xff\xc2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := term.Printable(text)
		if i := strings.IndexFunc(got, func(r rune) bool {
			return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
		}); i >= 0 || !utf8.ValidString(got) {
			t.Fatalf("%q becomes %q", text, got)
		}
		if utf8.RuneCountInString(got) != utf8.RuneCountInString(text) || term.Printable(got) != got {
			t.Fatalf("%q becomes %q", text, got)
		}
		for i, r := range []rune(text) {
			if (unicode.IsLetter(r) || unicode.IsDigit(r)) && []rune(got)[i] != r {
				t.Fatalf("%q becomes %q", text, got)
			}
		}
	})
}
