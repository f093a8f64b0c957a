package settings_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/settings"
)

func TestOnlyWhatIsSetAndNotSecretIsPrinted(t *testing.T) { // INV-12
	type config struct {
		URL    string
		Size   int
		Idle   time.Duration
		Dial   func()
		Other  *int
		Any    any
		Files  struct{ Cert string }
		Unset  string
		hidden int
	}
	secret := 42
	c := config{
		URL: "redis://:sesame@host", Size: 3, Idle: time.Second, Dial: func() {}, Other: &secret, Any: "sesame", hidden: secret,
		Files: struct{ Cert string }{"a.pem"},
	}
	want := "p.Config{URL:… Size:3 Idle:1s Dial:… Other:… Any:… Files:{Cert:a.pem}}"
	if got := settings.Config("p.Config", c, "URL"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := settings.Config("p.Config", config{}); got != "p.Config{}" {
		t.Errorf("got %s", got)
	}
}

func TestDifferencesAreToldFieldByField(t *testing.T) {
	type config struct {
		URL  string
		Size int
		Dial func() string
		Same func()
		Ptr  *int
		Any  any
	}
	dial := func(password string) func() string { return func() string { return password } }
	same, one, two := func() {}, 1, 1
	a := config{"a", 1, dial("old"), same, &one, dial("x")}
	b := config{"b", 2, dial("new"), same, &two, nil} // the same code, and another password
	want := []poolkeeper.Change{
		{Field: "URL", From: "…", To: "…"},
		{Field: "Size", From: "1", To: "2"},
		{Field: "Dial", From: "…", To: "…"},
		{Field: "Ptr", From: "…", To: "…"},
		{Field: "Any", From: "…", To: "…"},
	}
	got := settings.Diff(&a, &b, "URL", "Any")
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := settings.Diff(&a, &a); len(got) > 0 {
		t.Errorf("differs from itself by %v", got)
	}
}

func TestOffAndDefaultAreToldApart(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{0: time.Minute, poolkeeper.Off: 0, time.Second: time.Second} {
		if got := settings.Or(d, time.Minute); got != want {
			t.Errorf("%d comes to %s, want %s", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "keep_alive=off", time.Second: "keep_alive=1s"} {
		if got := settings.Duration("keep_alive", d).String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestTimesSaysEveryFaultAtOnce(t *testing.T) {
	const pkg = "p"
	for _, tt := range []struct {
		time settings.Time
		want string // "": allowed
	}{
		{settings.Time{Value: 0, Long: true}, ""},
		{settings.Time{Value: 1}, ""},
		{settings.Time{Value: poolkeeper.Off, Off: true, Long: true}, ""},
		{settings.Time{Value: settings.Longest, Long: true}, ""},
		{settings.Time{Value: time.Millisecond, Long: true}, ""},
		{settings.Time{Value: poolkeeper.Off}, "p: X is -1ns; it must be positive or 0 (the default)"},
		{settings.Time{Value: -2, Off: true}, "p: X is -2ns; it must be positive, 0 (the default) or Off"},
		{
			settings.Time{Value: math.MaxInt64, Off: true},
			"p: X is 2562047h47m16.854775807s; it must be at most 100 years, 0 (the default) or Off",
		},
		{settings.Time{Value: settings.Longest + 1}, "p: X is 876000h0m0.000000001s; it must be at most 100 years or 0 (the default)"},
		{
			settings.Time{Value: 30, Long: true, Off: true},
			"p: X is 30ns; it must be at least 1ms, 0 (the default) or Off; durations are time.Duration: did you mean 30*time.Second?",
		},
		{settings.Time{Value: 500 * time.Microsecond, Long: true}, "p: X is 500µs; it must be at least 1ms or 0 (the default)"},
	} {
		tt.time.Name = "X"
		got := ""
		if err := settings.Times(pkg, tt.time); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%d: got %q, want %q", tt.time.Value, got, tt.want)
		}
	}
	err := settings.Times(pkg, settings.Time{Name: "A", Value: -1}, settings.Time{Name: "B", Value: 1}, settings.Time{Name: "C", Value: -1})
	if err == nil || !strings.Contains(err.Error(), "A is") || !strings.Contains(err.Error(), "C is") || strings.Contains(err.Error(), "B is") {
		t.Errorf("got %v, want the faults of A and C", err)
	}
}
