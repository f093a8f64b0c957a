// Package stacks looks at the goroutines of this process: what those with a certain pprof label
// are doing, and which are running now that were not before. It needs nothing outside the standard
// library.
package stacks

import (
	"bufio"
	"bytes"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
)

// Group is a number of goroutines with the same stack and the same labels.
type Group struct {
	Count  int
	Labels map[string]string // nil if there are none
	Frames []Frame           // innermost first
}

// Frame is one call on a stack.
type Frame struct {
	Function string
	File     string
	Line     int
}

// String returns "function (file:line)".
func (f Frame) String() string { return f.Function + " (" + f.File + ":" + strconv.Itoa(f.Line) + ")" }

// Profile returns all goroutines. The world is stopped for it for a moment, longer the more
// goroutines there are: it is for the rare case.
func Profile() []Group {
	var buf bytes.Buffer
	// The text form with debug=1 is the one that shows labels; it is documented for people, and has
	// not changed since labels came into it. What cannot be parsed is left out.
	if err := pprof.Lookup("goroutine").WriteTo(&buf, 1); err != nil {
		return nil
	}
	return Parse(buf.Bytes())
}

// Parse reads the text that runtime/pprof writes for the goroutine profile with debug=1.
func Parse(text []byte) []Group {
	var groups []Group
	var g *Group
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if count, rest, ok := strings.Cut(line, " @"); ok && !strings.HasPrefix(line, "#") {
			n, err := strconv.Atoi(count)
			if err != nil || (rest != "" && rest[0] != ' ') {
				continue
			}
			groups = append(groups, Group{Count: n})
			g = &groups[len(groups)-1]
			continue
		}
		if g == nil {
			continue
		}
		if labels, ok := strings.CutPrefix(line, "# labels: "); ok {
			g.Labels = parseLabels(labels)
			continue
		}
		if f, ok := parseFrame(line); ok {
			g.Frames = append(g.Frames, f)
		}
	}
	return groups
}

// parseLabels reads {"key":"value", "key":"value"}, quoted as strconv.Quote does. It returns nil
// for anything else.
func parseLabels(text string) map[string]string {
	labels := make(map[string]string)
	rest, ok := strings.CutPrefix(text, "{")
	for ok {
		var key, value string
		if key, rest, ok = unquote(rest, ":"); !ok {
			break
		}
		if value, rest, ok = unquote(rest, ""); !ok {
			break
		}
		labels[key] = value
		if rest == "}" {
			return labels
		}
		rest, ok = strings.CutPrefix(rest, ", ")
	}
	return nil
}

// unquote takes a quoted string and what must follow it from the front of text.
func unquote(text, follow string) (value, rest string, ok bool) {
	quoted, err := strconv.QuotedPrefix(text)
	if err != nil {
		return "", "", false
	}
	if value, err = strconv.Unquote(quoted); err != nil {
		return "", "", false
	}
	rest, ok = strings.CutPrefix(text[len(quoted):], follow)
	return value, rest, ok
}

// parseFrame reads "#	0x47b2a4	main.work+0x24		/src/main.go:12".
func parseFrame(line string) (Frame, bool) {
	fields := strings.FieldsFunc(line, func(r rune) bool { return r == '\t' })
	if len(fields) != 4 || fields[0] != "#" {
		return Frame{}, false
	}
	function, file := fields[2], fields[3]
	if i := strings.LastIndex(function, "+0x"); i >= 0 {
		function = function[:i]
	}
	i := strings.LastIndexByte(file, ':')
	if i < 0 {
		return Frame{}, false
	}
	n, err := strconv.Atoi(file[i+1:])
	if err != nil {
		return Frame{}, false
	}
	return Frame{Function: function, File: file[:i], Line: n}, true
}

// Callers returns the stack of the calling goroutine, innermost first, without the skip innermost
// frames above the caller of Callers and without the runtime's own.
func Callers(skip int) []Frame {
	var pcs [64]uintptr
	n := runtime.Callers(skip+2, pcs[:])
	frames := runtime.CallersFrames(pcs[:n])
	var out []Frame
	for {
		f, more := frames.Next()
		if f.Function != "" && !strings.HasPrefix(f.Function, "runtime.") {
			out = append(out, Frame{Function: f.Function, File: f.File, Line: f.Line})
		}
		if !more {
			return out
		}
	}
}

// Print returns one frame per line.
func Print(frames []Frame) string {
	var b strings.Builder
	for i, f := range frames {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(f.String())
	}
	return b.String()
}
