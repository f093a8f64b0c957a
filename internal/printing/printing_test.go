package printing_test

import (
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/printing"
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
	if got := printing.Config("p.Config", c, "URL"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := printing.Config("p.Config", config{}); got != "p.Config{}" {
		t.Errorf("got %s", got)
	}
}
