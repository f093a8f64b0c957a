package settings_test

import (
	"slices"
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
	want := "p.Config{URL:… Size:3 Idle:1s Dial:… Other:… Any:… Files:{a.pem}}"
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
