package lifecycle_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/eviction"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/health/quality"
	"github.com/poolkeeper/poolkeeper/lifecycle"
)

// vault is a component, a closer and a pool that holds a secret by value, which is where fmt looks.
type vault struct{ URL, password string }

func (vault) Start(context.Context) error                            { return nil }
func (vault) Stop(context.Context) error                             { return nil }
func (vault) Close() error                                           { return nil }
func (v vault) Check(context.Context) error                          { return leakyError(v) }
func (vault) Open() int                                              { return 0 }
func (vault) Peak() int                                              { return 0 }
func (vault) Fill(context.Context, int) error                        { return nil }
func (vault) Stats() poolkeeper.Stats                                { return poolkeeper.Stats{} }
func (vault) Sweep(context.Context, eviction.Sweep) (next time.Time) { return next }

// leakyError is an error of a probe that has the secret in its text and in itself.
type leakyError vault

func (e leakyError) Error() string { return "dial redis://:" + e.password + "@10.0.0.7: refused" }

func TestNothingThatIsPrintedShowsASecretOfAComponent(t *testing.T) { // INV-12
	const secret = "s3cret"
	v := vault{"redis://:" + secret + "@10.0.0.7", secret}
	reg := lifecycle.New(quiet())
	srv := lifecycle.HTTPServer(&http.Server{Addr: secret}) //nolint:gosec // it never serves
	group := &lifecycle.Group{}
	reg.Add("vault", v)
	reg.Add("closer", lifecycle.Closer(v), lifecycle.WithDependencies("vault"))
	reg.Add("group", group)
	transitions := reg.Health().Watch(t.Context())
	mustStart(t, reg)
	var change health.Transition
	for change = range transitions {
		if change.Check == "vault" {
			break
		}
	}
	check, _ := reg.Health().Report().Check("vault")
	registration, err := reg.Health().Register(health.Check{Name: "x", Probe: v.Check})
	if err != nil {
		t.Fatal(err)
	}
	heart, err := reg.Health().Heartbeat("loop", 1)
	if err != nil {
		t.Fatal(err)
	}
	meter, err := quality.NewMeter(v.Check, v.Stats, quality.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	status := reg.Status()
	for name, value := range map[string]any{
		"Registry": reg, "Server": srv, "Group": group, "Closer": lifecycle.Closer(v), "Status": status, "Report": status.Start,
		"Worker": lifecycle.Worker(func(context.Context) error { return leakyError(v) }),
		"Hooks":  lifecycle.Hooks{OnStart: v.Start}, "HTTPClient": lifecycle.HTTPClient(http.DefaultClient),
		"Monitor": reg.Health(), "Registration": registration, "Heartbeat": heart, "Meter": meter,
		"Transition": change, "CheckReport": check, "health.Report": reg.Health().Report(),
		"Evictor":       eviction.New(v, eviction.Policy{}),
		"inside struct": struct{ r any }{reg}, "pointer to struct": &struct{ C any }{lifecycle.Closer(v)},
	} {
		if printed := everyWay(value); strings.Contains(printed, secret) {
			t.Errorf("%s: the secret is in\n%s", name, printed)
		}
	}
	if e := check.Err; !errors.As(e, new(leakyError)) {
		t.Errorf("the probe's own error cannot be reached: %v", e)
	}
	if err := reg.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// everyWay prints a value in every way there is.
func everyWay(v any) string {
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%d", "%s", "%q", "%x"} {
		s := fmt.Sprintf(verb, v)
		if verb == "%x" {
			s = strings.ReplaceAll(s, fmt.Sprintf("%x", "s3cret"), "s3cret")
		}
		fmt.Fprintln(&b, verb, s)
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("text", "value", v)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("json", "value", v)
	_ = json.NewEncoder(&b).Encode(v) // functions cannot be encoded
	return b.String()
}
