package printing_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/printing"
)

type vault struct{ Password string }

func (vault) String() string                 { return `a "vault"` }
func (v vault) Format(f fmt.State, _ rune)   { printing.Format(f, v) }
func (v vault) LogValue() slog.Value         { return printing.LogValue(v) }
func (v vault) MarshalJSON() ([]byte, error) { return printing.JSON(v) }

func TestOnlyStringIsPrinted(t *testing.T) { // INV-12
	v := vault{"s3cret"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%d", "%s", "%q", "%x"} {
		if got := fmt.Sprintf(verb, v); got != v.String() {
			t.Errorf("%s: %s", verb, got)
		}
	}
	out, err := json.Marshal(struct{ V vault }{v})
	if want := `{"V":"a \"vault\""}`; err != nil || string(out) != want {
		t.Errorf("got %s, %v, want %s", out, err, want)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("", "value", v)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "value", v)
	if got := log.String(); strings.Count(got, `a \"vault\"`) != 2 || strings.Contains(got, "s3cret") {
		t.Error(got)
	}
}
