// Package term knows whether a stream is a terminal, and how to colour and redraw there.
//
//	Out ──▶ a terminal, and no NO_COLOR ──▶ styled
//	   └──▶ a file or a pipe ──▶ plain
//
// It refuses to read keys, and to change a terminal's mode.
package term

import (
	"fmt"
	"io"
	"os"
	"unicode"

	"golang.org/x/term"
)

// Styles colour text, or leave it as it is.
type Styles struct{ on bool }

// StylesFor returns the styles for w: none unless w is a terminal, or if NO_COLOR is set
// (https://no-color.org) or TERM is "dumb".
func StylesFor(w io.Writer, getenv func(string) string) Styles {
	return Styles{IsTerminal(w) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"}
}

// Forced returns styles that colour.
func Forced() Styles { return Styles{true} }

// Bold returns text in bold.
func (s Styles) Bold(text string) string { return s.wrap("1", text) }

// Faint returns text in a fainter colour.
func (s Styles) Faint(text string) string { return s.wrap("2", text) }

// Good returns text in green.
func (s Styles) Good(text string) string { return s.wrap("32", text) }

// Warning returns text in yellow.
func (s Styles) Warning(text string) string { return s.wrap("33", text) }

// Bad returns text in red.
func (s Styles) Bad(text string) string { return s.wrap("31", text) }

func (s Styles) wrap(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) //nolint:gosec // a descriptor fits
}

// Size returns the columns and lines of a terminal; 100 and 40 if they are not known.
func Size(w io.Writer) (columns, lines int) {
	if f, ok := w.(*os.File); ok {
		if c, l, err := term.GetSize(int(f.Fd())); err == nil && c > 0 && l > 0 { //nolint:gosec // a descriptor fits
			return c, l
		}
	}
	return 100, 40
}

// Home moves the cursor to the top left, so that the screen is redrawn in place. ClearLine and
// ClearBelow remove the rest of the last drawing.
const (
	Home       = "\x1b[H"
	ClearLine  = "\x1b[K"
	ClearBelow = "\x1b[J"
)

// Enter switches to the alternate screen and hides the cursor.
func Enter(w io.Writer) { _, _ = fmt.Fprint(w, "\x1b[?1049h\x1b[?25l") }

// Leave undoes Enter.
func Leave(w io.Writer) { _, _ = fmt.Fprint(w, "\x1b[?25h\x1b[?1049l") }

// Printable returns text without control characters, direction marks and line breaks of any kind, so
// that a service cannot steer the terminal.
func Printable(text string) string {
	out := make([]rune, 0, len(text))
	for _, r := range text {
		switch {
		case r == '\n' || r == '\t':
			out = append(out, ' ')
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == 0x2028, r == 0x2029:
			out = append(out, '�')
		default:
			out = append(out, r)
		}
	}
	return string(out)
}
