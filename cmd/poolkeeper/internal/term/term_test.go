package term_test

import (
	"bytes"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/term"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOnlyATerminalIsColoured(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	env := func(string) string { return "" }
	for _, st := range []term.Styles{term.StylesFor(new(bytes.Buffer), env), term.StylesFor(null, env), {}} {
		if got := st.Bad("x"); got != "x" {
			t.Errorf("%q", got)
		}
	}
	if got := term.Forced().Bad("x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("%q", got)
	}
	if got := term.Forced().Bad(""); got != "" {
		t.Errorf("%q", got)
	}
	if c, l := term.Size(null); c <= 0 || l <= 0 {
		t.Errorf("%d × %d", c, l)
	}
}

func TestPrintableCannotSteerATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"plain, größer":         "plain, größer",
		"two\nlines\tand a tab": "two lines and a tab",
		"\x1b[2J\x07":           "�[2J�",
		"\u009b31m":             "�31m",
		"a\u202eb\u2066c":       "a�b�c",
		"a\u200fb\u061cc\u2028": "a�b�c�",
	} {
		if got := term.Printable(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
