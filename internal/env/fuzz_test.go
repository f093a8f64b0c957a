package env_test

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/env"
)

// everyType has a field of each type that a variable can set.
type everyType struct {
	URL        string
	Hosts      []string
	Verbose    bool
	MaxOpen    int
	MaxWaiting int
	LifeJitter float64
	Share      float64
	MaxAge     time.Duration
	Patience   time.Duration
	Start      poolkeeper.StartPolicy
	TLSFiles   poolkeeper.TLSFiles
}

// Whatever a variable holds, what is read is within its bounds and reads the same again; a value that
// is refused changes nothing, and its error names the variable. A text is never a fault, so no error
// shows one.
func FuzzFill(f *testing.F) {
	for _, s := range []string{"", "3", "-1", "-1s", "none", "Off", "1m30s", "NaN", "1e-9", "0x1p-2", "true", "fail-fast", "a, b,,c", "9223372036854775808", "1_000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		fill := func(value string) (s everyType, err error) {
			s = everyType{MaxOpen: 7, MaxWaiting: 7, LifeJitter: 0.7, Share: 0.7, MaxAge: 7, Patience: 7}
			r := env.NewSource("x", func(field string) (name, text string) { return "X_" + env.Words(field), value })
			r.Fill(&s, map[string]bool{"MaxAge": true})
			return s, r.Err(nil)
		}
		s, err := fill(value)
		if s.URL != value || s.TLSFiles.CA != value {
			t.Fatalf("a text is %q", s.URL)
		}
		if value != "" && strings.Join(s.Hosts, "") != strings.Join(trimmed(value), "") {
			t.Fatalf("the list is %q", s.Hosts)
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		for name, c := range map[string]struct {
			valid, kept bool
			again       string
		}{
			"X_MAX_OPEN":    {true, s.MaxOpen == 7, strconv.Itoa(s.MaxOpen)},
			"X_MAX_WAITING": {s.MaxWaiting >= poolkeeper.NoWaiting, s.MaxWaiting == 7, strconv.Itoa(s.MaxWaiting)},
			"X_LIFE_JITTER": {s.LifeJitter == poolkeeper.NoJitter || s.LifeJitter >= 0 && s.LifeJitter <= 1, s.LifeJitter == 0.7, ratio(s.LifeJitter)},
			"X_SHARE":       {s.Share >= 0 && s.Share <= 1, s.Share == 0.7, ratio(s.Share)},
			"X_MAX_AGE":     {s.MaxAge == poolkeeper.Off || s.MaxAge >= 0, s.MaxAge == 7, s.MaxAge.String()},
			"X_PATIENCE":    {s.Patience >= 0, s.Patience == 7, s.Patience.String()},
		} {
			refused := strings.Contains(text, name+" is ")
			if !c.valid || refused && !c.kept {
				t.Fatalf("%s=%q: %+v", name, value, s)
			}
			if refused || value == "" || strings.EqualFold(value, "off") || strings.EqualFold(value, "none") {
				continue
			}
			if again, _ := fill(c.again); again.MaxOpen != s.MaxOpen && name == "X_MAX_OPEN" || again.MaxAge != s.MaxAge && name == "X_MAX_AGE" ||
				again.Share != s.Share && name == "X_SHARE" {
				t.Fatalf("%s=%q reads as %q, and that as %+v", name, value, c.again, again)
			}
		}
		if strings.Contains(text, "X_URL") || strings.Contains(text, "X_TLS_FILES_CA") || strings.Contains(text, "X_HOSTS") {
			t.Fatalf("a text is refused: %v", err)
		}
	})
}

func trimmed(list string) []string {
	parts := strings.Split(list, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func ratio(f float64) string {
	if math.IsNaN(f) {
		return "NaN"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// Two fields never share a variable, if their names differ in more than case.
func FuzzWords(f *testing.F) {
	f.Add("MaxIdleTime", "TLSFiles.CA")
	f.Add("aB", "a_B")
	f.Add("HTTPServer", "HttpServer")
	f.Fuzz(func(t *testing.T, one, two string) {
		if strings.ContainsFunc(one+two, func(r rune) bool { return r >= utf8.RuneSelf }) { // no field has such a name
			return
		}
		plain := func(s string) string { return strings.ToUpper(strings.NewReplacer("_", "", ".", "").Replace(s)) }
		a, b := env.Words(one), env.Words(two)
		if strings.ToUpper(a) != a || plain(a) != plain(one) {
			t.Errorf("%q is %q", one, a)
		}
		if a == b && plain(one) != plain(two) {
			t.Errorf("%q and %q are both %q", one, two, a)
		}
	})
}
