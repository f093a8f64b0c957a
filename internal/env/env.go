// Package env fills a pool's configuration from environment variables and reports everything that
// is wrong with them at once: the variable, its value unless that is a secret, and what is allowed.
//
// A variable is named after the field that it sets: MaxIdleTime with the prefix ORDERS is
// ORDERS_MAX_IDLE_TIME. A variable that is empty is as good as not set.
package env

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/poolkeeper/poolkeeper"
)

// prefixes are the shapes that a prefix may have.
var prefixes = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

// Reader reads the variables of one prefix. It is not safe for concurrent use.
type Reader struct {
	pkg    string // begins every error
	prefix string
	source func(field string) (name, value string) // reads the environment, unless NewSource has set it
	names  map[string]string                       // variables by field
	faults []error
}

// NewReader returns a Reader for the package pkg. A trailing underscore of prefix is ignored.
func NewReader(pkg, prefix string) *Reader {
	r := &Reader{pkg: pkg, prefix: strings.TrimSuffix(prefix, "_"), names: map[string]string{}}
	r.source = func(field string) (name, value string) {
		name = r.Name(field)
		return name, os.Getenv(name)
	}
	if !prefixes.MatchString(prefix) {
		r.fault("the prefix %q of environment variables must be letters, digits and underscores, and begin with a letter", prefix)
	}
	return r
}

// NewSource returns a Reader that asks source instead of the environment. source returns the name of
// a field, as errors show it, and its value, which is empty if the field is not set.
func NewSource(pkg string, source func(field string) (name, value string)) *Reader {
	return &Reader{pkg: pkg, source: source, names: map[string]string{}}
}

func (r *Reader) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf(r.pkg+": "+format, args...))
}

// Name returns the variable that sets a field; in "TLSFiles.CA" the dot counts as a change of word.
func (r *Reader) Name(field string) string {
	return strings.ToUpper(r.prefix) + "_" + Words(field)
}

// Words returns a field's name as the words of a variable: MAX_IDLE_TIME for MaxIdleTime.
func Words(field string) string {
	var b strings.Builder
	letters := []rune(field)
	for i, c := range letters {
		switch {
		case c == '.':
			b.WriteByte('_')
			continue
		case i == 0 || letters[i-1] == '.' || !unicode.IsUpper(c):
		case unicode.IsLower(letters[i-1]), i+1 < len(letters) && unicode.IsLower(letters[i+1]):
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(c))
	}
	return b.String()
}

// lookup returns the value for a field.
func (r *Reader) lookup(field string) (name, value string, ok bool) {
	name, value = r.source(field)
	r.names[field] = name
	return name, value, value != ""
}

// String sets into if the variable is set.
func (r *Reader) String(field string, into *string) {
	if _, v, ok := r.lookup(field); ok {
		*into = v
	}
}

// Required is String, and a fault if the variable is not set.
func (r *Reader) Required(field string, into *string, allowed string) {
	name, v, ok := r.lookup(field)
	if !ok {
		r.fault("%s is not set; it must be %s", name, allowed)
	}
	*into = v
}

// Int sets into if the variable is set.
func (r *Reader) Int(field string, into *int) {
	name, v, ok := r.lookup(field)
	if !ok {
		return
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		r.fault("%s is %q; it must be a whole number", name, v)
		return
	}
	*into = n
}

// Waiting sets into, how many callers may wait, if the variable is set; to NoWaiting for "none".
func (r *Reader) Waiting(field string, into *int) {
	name, v, ok := r.lookup(field)
	if !ok {
		return
	}
	if strings.EqualFold(v, "none") {
		*into = poolkeeper.NoWaiting
		return
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		r.fault("%s is %q; it must be a whole number, or none", name, v)
		return
	}
	*into = n
}

// Duration sets into if the variable is set: to a Go duration, or to off for "off", unless off is
// 0.
func (r *Reader) Duration(field string, into *time.Duration, off time.Duration) {
	name, v, ok := r.lookup(field)
	if !ok {
		return
	}
	if strings.EqualFold(v, "off") && off != 0 {
		*into = off
		return
	}
	d, err := time.ParseDuration(v)
	if err == nil && d >= 0 {
		*into = d
		return
	}
	allowed := "a duration such as 1m30s"
	if off != 0 {
		allowed += ", or off"
	}
	r.fault("%s is %q; it must be %s", name, v, allowed)
}

// Part sets into, a part of a whole from 0 to 1, if the variable is set; to none for "off".
func (r *Reader) Part(field string, into *float64, none float64) {
	name, v, ok := r.lookup(field)
	if !ok {
		return
	}
	if strings.EqualFold(v, "off") {
		*into = none
		return
	}
	r.ratio(name, v, into, "a number from 0 to 1, or off")
}

// Ratio sets into, a number from 0 to 1, if the variable is set.
func (r *Reader) Ratio(field string, into *float64) {
	if name, v, ok := r.lookup(field); ok {
		r.ratio(name, v, into, "a number from 0 to 1")
	}
}

func (r *Reader) ratio(name, v string, into *float64, allowed string) {
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || !(f >= 0 && f <= 1) { // written so that NaN is refused too
		r.fault("%s is %q; it must be %s", name, v, allowed)
		return
	}
	*into = f
}

// List sets into if the variable is set: its parts between commas, without space around them.
func (r *Reader) List(field string, into *[]string) {
	_, v, ok := r.lookup(field)
	if !ok {
		return
	}
	parts := strings.Split(v, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	*into = parts
}

// Choice is one word that a variable may be.
type Choice[T any] struct {
	Word  string
	Value T
}

// Choose sets into if the variable is set to one of the words.
func Choose[T any](r *Reader, field string, into *T, choices ...Choice[T]) {
	name, v, ok := r.lookup(field)
	if !ok {
		return
	}
	words := make([]string, len(choices))
	for i, c := range choices {
		if strings.EqualFold(v, c.Word) {
			*into = c.Value
			return
		}
		words[i] = c.Word
	}
	r.fault("%s is %q; it must be one of %s", name, v, strings.Join(words, ", "))
}

// Bool sets into if the variable is set to true or false.
func (r *Reader) Bool(field string, into *bool) {
	Choose(r, field, into, Choice[bool]{"true", true}, Choice[bool]{"false", false})
}

// StartPolicy sets into if the variable is set.
func (r *Reader) StartPolicy(field string, into *poolkeeper.StartPolicy) {
	Choose(r, field, into, Choice[poolkeeper.StartPolicy]{"fail-fast", poolkeeper.StartFailFast},
		Choice[poolkeeper.StartPolicy]{"wait-for-server", poolkeeper.StartWaitForServer},
		Choice[poolkeeper.StartPolicy]{"start-degraded", poolkeeper.StartDegraded})
}

// TLSFiles sets the fields of into whose variables are set.
func (r *Reader) TLSFiles(field string, into *poolkeeper.TLSFiles) {
	r.String(field+".CA", &into.CA)
	r.String(field+".Cert", &into.Cert)
	r.String(field+".Key", &into.Key)
}

// Isolation sets the fields of into whose variables are set.
func (r *Reader) Isolation(field string, into *poolkeeper.Isolation) {
	r.Int(field+".MinScore", &into.MinScore)
	r.Duration(field+".After", &into.After, 0)
	r.Duration(field+".Retry", &into.Retry, 0)
	r.Duration(field+".MaxRetry", &into.MaxRetry, 0)
	r.Ratio(field+".TrialShare", &into.TrialShare)
	r.Int(field+".MinServing", &into.MinServing)
	r.Int(field+".LatencyWeight", &into.LatencyWeight)
	r.Int(field+".ErrorWeight", &into.ErrorWeight)
	r.Int(field+".SaturationWeight", &into.SaturationWeight)
	r.Int(field+".SlowFactor", &into.SlowFactor)
	r.Duration(field+".FastLatency", &into.FastLatency, 0)
	r.Duration(field+".SlowLatency", &into.SlowLatency, 0)
	r.Ratio(field+".MaxErrorRatio", &into.MaxErrorRatio)
}

// Fill reads a variable for each field of the struct that into points to, if its type is one that a
// text can say. mayBeOff has the durations that may be Off. A Jitter may be off, and
// MaxWaiting none.
func (r *Reader) Fill(into any, mayBeOff map[string]bool) {
	v := reflect.ValueOf(into).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		r.Field(name, v.Field(i).Addr().Interface(), mayBeOff[name])
	}
}

// Field reads the variable for one field, which into points to. A field of a type that no text can
// set keeps its value.
func (r *Reader) Field(name string, into any, mayBeOff bool) {
	switch p := into.(type) {
	case *string:
		r.String(name, p)
	case *[]string:
		r.List(name, p)
	case *bool:
		r.Bool(name, p)
	case *int:
		if name == "MaxWaiting" {
			r.Waiting(name, p)
		} else {
			r.Int(name, p)
		}
	case *float64:
		if strings.HasSuffix(name, "Jitter") {
			r.Part(name, p, poolkeeper.NoJitter)
		} else {
			r.Ratio(name, p)
		}
	case *time.Duration:
		off := time.Duration(0)
		if mayBeOff {
			off = poolkeeper.Off
		}
		r.Duration(name, p, off)
	case *poolkeeper.StartPolicy:
		r.StartPolicy(name, p)
	case *poolkeeper.TLSFiles:
		r.TLSFiles(name, p)
	case *poolkeeper.Isolation:
		r.Isolation(name, p)
	}
}

// Err joins what was wrong with the variables and what validating the configuration has found.
// Where that begins with the name of a field that was read, the variable is named instead.
func (r *Reader) Err(validation error) error {
	return errors.Join(append(append([]error(nil), r.faults...), r.rename(validation)...)...)
}

func (r *Reader) rename(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { // the outermost only: it is taken apart
		var out []error
		for _, e := range joined.Unwrap() {
			out = append(out, r.rename(e)...)
		}
		return out
	}
	text := strings.TrimPrefix(err.Error(), r.pkg+": ")
	field := text
	if end := strings.IndexFunc(text, func(c rune) bool { return c != '.' && !unicode.IsLetter(c) }); end >= 0 {
		field = text[:end]
	}
	if name, ok := r.names[field]; ok {
		return []error{renamed{err, r.pkg + ": " + name + text[len(field):]}}
	}
	return []error{err}
}

// renamed is an error with another text.
type renamed struct {
	error

	text string
}

// Error returns the text.
func (e renamed) Error() string { return e.text }

// Unwrap returns the error that was renamed.
func (e renamed) Unwrap() error { return e.error }
