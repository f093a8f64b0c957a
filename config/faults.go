package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/poolkeeper/poolkeeper/internal/nearest"
)

// position is a place in the file. Both count from 1; the zero position is the file as a whole.
type position struct{ line, column int }

// fault is one thing that is wrong with a file.
type fault struct {
	file string
	at   position
	text string
	err  error // what it wraps; nil: nothing
}

func (f *fault) Error() string {
	if f.at == (position{}) {
		return fmt.Sprintf("config: %s: %s", f.file, f.text)
	}
	return fmt.Sprintf("config: %s:%d:%d: %s", f.file, f.at.line, f.at.column, f.text)
}

func (f *fault) Unwrap() error { return f.err }

// faults collects what is wrong with a file.
type faults struct {
	file    string
	list    []*fault
	secrets []string // values that no text may show
}

func (f *faults) add(at position, format string, args ...any) {
	f.list = append(f.list, &fault{file: f.file, at: at, text: f.scrub(fmt.Sprintf(format, args...))})
}

// wrap adds an error of another package, whose text it replaces.
func (f *faults) wrap(at position, err error, text string) {
	f.list = append(f.list, &fault{file: f.file, at: at, text: f.scrub(text), err: scrubbed{f.scrub(err.Error()), err}})
}

// scrub removes the secrets that were read so far.
func (f *faults) scrub(text string) string {
	for _, s := range f.secrets {
		text = strings.ReplaceAll(text, s, "…")
	}
	return text
}

// scrubbed is an error whose text has lost its secrets. errors.Is still reaches the error.
type scrubbed struct {
	text string
	err  error
}

func (s scrubbed) Error() string        { return s.text }
func (s scrubbed) Is(target error) bool { return errors.Is(s.err, target) }

// err joins the faults in the order of the file, or returns nil.
func (f *faults) err() error {
	slices.SortStableFunc(f.list, func(a, b *fault) int {
		return cmp.Or(cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.column, b.at.column))
	})
	errs := make([]error, 0, len(f.list))
	for i, each := range f.list {
		if i == 0 || each.at != f.list[i-1].at || each.text != f.list[i-1].text {
			errs = append(errs, each)
		}
	}
	return errors.Join(errs...)
}

// suggestion returns "; did you mean …?" for the name most like the given one, or nothing.
func suggestion(name string, among []string) string {
	best := nearest.Name(name, slices.Values(among))
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}
