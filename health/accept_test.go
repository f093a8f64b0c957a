package health_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/health"
)

func TestAcceptIsNegotiated(t *testing.T) {
	const (
		text = "text/plain; charset=utf-8"
		json = "application/health+json"
	)
	for _, c := range []struct {
		want   string
		accept []string
	}{
		{text, nil},
		{text, []string{""}},
		{text, []string{"*/*"}},
		{text, []string{"text/plain"}},
		{text, []string{"text/*"}},
		{text, []string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}},
		{text, []string{"image/png"}},
		{text, []string{"application/json;q=0"}},
		{text, []string{"text/plain, application/json"}},
		{json, []string{"application/json"}},
		{json, []string{"APPLICATION/JSON"}},
		{json, []string{"application/*"}},
		{json, []string{"application/json; charset=utf-8"}},
		{json, []string{"text/plain;q=0.5, application/json;q=0.501"}},
		{json, []string{"text/plain;q=0.1", "application/json"}},
		{json, []string{"text/*;q=0, */*"}},
		{json, []string{" application/json ; Q=0.9 , text/plain ; q=0.8"}},
		{json, []string{"application/health+json;q=0.4, application/*;q=0.5, text/plain;q=0"}},
		{json, []string{"application/health+json"}},
		{json, []string{"application/json;q=0.9, application/health+json"}},
		{json, []string{"*/*;q=0.1, application/health+json;q=0.2"}},
		{text, []string{"*/*;q=nonsense, application/json;q=0.9"}},
		{json, []string{"application/json;q=1.000, text/plain;q=0.999"}},
		{text, []string{";;;,,,q=,/,*"}},
		{json, []string{strings.Repeat("a/b,", 256) + "application/json"}},
		{json, []string{"application/json;q=2, text/plain;q=0.0001, */*;q=0.x"}},
		{text, []string{"application/json;q=-1, text/plain;q=NaN, */*;q=1e9"}},
		{text, []string{"application/jsonx, xapplication/json, */json"}},
	} {
		if got := health.Negotiate(c.accept...); got != c.want {
			t.Errorf("Accept %q: %s, want %s", c.accept, got, c.want)
		}
	}
}

func TestQueryIsParsed(t *testing.T) {
	for _, c := range []struct {
		raw     string
		verbose bool
		exclude []string
	}{
		{"", false, nil},
		{"verbose", true, nil},
		{"verbose=", true, nil},
		{"verbose=1", true, nil},
		{"verbose=true&x=y", true, nil},
		{"verbose=0", false, nil},
		{"verbose=false", false, nil},
		{"exclude=a&exclude=b", false, []string{"a", "b"}},
		{"exclude=cache%2F10.0.0.7&verbose", true, []string{"cache/10.0.0.7"}},
		{"exclude=", false, nil},
		{"exclude=%zz&exclude=ok", false, []string{"ok"}},
		{"&&=&exclude", false, nil},
	} {
		verbose, exclude := health.ParseQuery(c.raw)
		if verbose != c.verbose || !slices.Equal(exclude, c.exclude) {
			t.Errorf("%q: verbose %t, exclude %q", c.raw, verbose, exclude)
		}
	}
}
