package env_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/env"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestVariablesAreNamedAfterTheirFields(t *testing.T) {
	r := env.NewReader("pool", "orders_")
	for field, want := range map[string]string{
		"URL": "ORDERS_URL", "MaxOpen": "ORDERS_MAX_OPEN", "TLSFiles.CA": "ORDERS_TLS_FILES_CA", "MaxIdleTime": "ORDERS_MAX_IDLE_TIME",
		"TLSFiles.Cert": "ORDERS_TLS_FILES_CERT", "Name": "ORDERS_NAME",
	} {
		if got := r.Name(field); got != want {
			t.Errorf("Name(%s) = %s, want %s", field, got, want)
		}
	}
	if err := r.Err(nil); err != nil {
		t.Error(err)
	}
	for _, prefix := range []string{"", "_", "9", "A-B", "a="} {
		if err := env.NewReader("pool", prefix).Err(nil); err == nil || !strings.Contains(err.Error(), "prefix") {
			t.Errorf("the prefix %q: %v", prefix, err)
		}
	}
}

type settings struct {
	word     string
	must     string
	number   int
	length   time.Duration
	interval time.Duration
	part     float64
	mode     int
}

func read(r *env.Reader) settings {
	s := settings{word: "default", number: 7, mode: 9}
	r.String("Word", &s.word)
	r.Required("Must", &s.must, "an address")
	r.Int("Number", &s.number)
	r.Duration("Length", &s.length, -1)
	r.Duration("Interval", &s.interval, 0)
	r.Part("Part", &s.part, 1e-9)
	env.Choose(r, "Mode", &s.mode, env.Choice[int]{Word: "fast", Value: 1}, env.Choice[int]{Word: "slow", Value: 2})
	return s
}

func TestWhatIsNotSetStays(t *testing.T) {
	t.Setenv("X_WORD", "")
	t.Setenv("X_MUST", "here")
	r := env.NewReader("pool", "x")
	if got, want := read(r), (settings{word: "default", must: "here", number: 7, mode: 9}); got != want || r.Err(nil) != nil {
		t.Errorf("%+v, %v; want %+v", got, r.Err(nil), want)
	}
}

func TestEveryKindOfValueIsRead(t *testing.T) {
	for name, value := range map[string]string{
		"X_WORD": "w", "X_MUST": "m", "X_NUMBER": "-3", "X_LENGTH": "OFF", "X_INTERVAL": "1m30s", "X_PART": "0.25", "X_MODE": "Slow",
	} {
		t.Setenv(name, value)
	}
	want := settings{word: "w", must: "m", number: -3, length: -1, interval: 90 * time.Second, part: 0.25, mode: 2}
	r := env.NewReader("pool", "X")
	if got := read(r); got != want || r.Err(nil) != nil {
		t.Errorf("%+v, %v; want %+v", got, r.Err(nil), want)
	}
	t.Setenv("X_PART", "off")
	if got := read(env.NewReader("pool", "X")); got.part != 1e-9 {
		t.Errorf("part off is %v", got.part)
	}
}

func TestEveryFaultIsReportedWithVariableValueAndWhatIsAllowed(t *testing.T) {
	for name, value := range map[string]string{
		"X_NUMBER": "many", "X_LENGTH": "5", "X_INTERVAL": "off", "X_PART": "NaN", "X_MODE": "middling",
	} {
		t.Setenv(name, value)
	}
	r := env.NewReader("pool", "X")
	read(r)
	cause := errors.New("pool: Word is wrong")
	err := r.Err(errors.Join(errors.Join(cause, errors.New("pool: Other is wrong")), errors.New("pool: Word.Part: too")))
	want := []string{
		`pool: X_MUST is not set; it must be an address`,
		`pool: X_NUMBER is "many"; it must be a whole number`,
		`pool: X_LENGTH is "5"; it must be a duration such as 1m30s, or off`,
		`pool: X_INTERVAL is "off"; it must be a duration such as 1m30s`,
		`pool: X_PART is "NaN"; it must be a number from 0 to 1, or off`,
		`pool: X_MODE is "middling"; it must be one of fast, slow`,
		`pool: X_WORD is wrong`,
		`pool: Other is wrong`,
		`pool: Word.Part: too`,
	}
	if got := err.Error(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if !errors.Is(err, cause) {
		t.Error("the cause cannot be found")
	}
}

func TestFillReadsEveryFieldThatATextCanSay(t *testing.T) {
	for name, value := range map[string]string{
		"X_NAME": "orders", "X_MAX_OPEN": "5", "X_MAX_WAITING": "none", "X_JITTER": "off", "X_IDLE": "off", "X_EVERY": "1m",
		"X_DISABLE_PEEK": "true", "X_START": "start-degraded", "X_FILES_CA": "ca.pem", "X_HOSTS": "a:1, b:2", "X_CONFIGURE": "rm -rf /",
	} {
		t.Setenv(name, value)
	}
	type config struct {
		Name        string
		MaxOpen     int
		MaxWaiting  int
		Jitter      float64
		Idle, Every time.Duration
		DisablePeek bool
		Start       poolkeeper.StartPolicy
		Files       poolkeeper.TLSFiles
		Isolation   poolkeeper.Isolation
		Hosts       []string
		Configure   func()
	}
	var c config
	r := env.NewReader("pool", "X")
	r.Fill(&c, map[string]bool{"Idle": true})
	if err := r.Err(nil); err != nil {
		t.Error(err)
	}
	want := config{
		"orders", 5, poolkeeper.NoWaiting, poolkeeper.NoJitter, poolkeeper.Off, time.Minute, true,
		poolkeeper.StartDegraded,
		poolkeeper.TLSFiles{CA: "ca.pem"},
		poolkeeper.Isolation{},
		[]string{"a:1", "b:2"},
		nil,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, want %+v", c, want)
	}
	t.Setenv("X_EVERY", "off") // it may not be
	t.Setenv("X_DISABLE_PEEK", "yes")
	r = env.NewReader("pool", "X")
	r.Fill(&c, map[string]bool{"Idle": true})
	const faults = `pool: X_EVERY is "off"; it must be a duration such as 1m30s` + "\n" +
		`pool: X_DISABLE_PEEK is "yes"; it must be one of true, false`
	if err := r.Err(nil); err == nil || err.Error() != faults {
		t.Errorf("%v, want %s", err, faults)
	}
}

func TestEveryFieldOfIsolationHasAVariable(t *testing.T) {
	var c struct{ Isolation poolkeeper.Isolation }
	fields := reflect.TypeFor[poolkeeper.Isolation]()
	for f := range fields.Fields() {
		value := "7"
		switch f.Type {
		case reflect.TypeFor[float64]():
			value = "0.7"
		case reflect.TypeFor[time.Duration]():
			value = "7s"
		}
		t.Setenv("X_ISOLATION_"+env.Words(f.Name), value)
	}
	r := env.NewReader("pool", "X")
	r.Fill(&c, nil)
	if err := r.Err(nil); err != nil {
		t.Error(err)
	}
	for i, f := range reflect.ValueOf(c.Isolation).Fields() {
		if f.IsZero() {
			t.Errorf("%s is not read", i.Name)
		}
	}
	t.Setenv("X_ISOLATION_MAX_ERROR_RATIO", "off")
	r = env.NewReader("pool", "X")
	r.Fill(&c, nil)
	const fault = `pool: X_ISOLATION_MAX_ERROR_RATIO is "off"; it must be a number from 0 to 1`
	if err := r.Err(nil); err == nil || err.Error() != fault {
		t.Errorf("%v, want %s", err, fault)
	}
}

// A source other than the environment is read and named the same way.
func TestASourceStandsInForTheEnvironment(t *testing.T) {
	values := map[string]string{"MaxOpen": "many", "MaxIdleTime": "off", "Jitter": "0.5", "Logger": "x"}
	r := env.NewSource("pool", func(field string) (name, value string) { return "line 3: " + env.Words(field), values[field] })
	var c struct {
		MaxOpen     int
		MaxIdleTime time.Duration
		Jitter      float64
		Logger      func()
	}
	r.Fill(&c, map[string]bool{"MaxIdleTime": true})
	if c.MaxOpen != 0 || c.MaxIdleTime != poolkeeper.Off || c.Jitter != 0.5 || c.Logger != nil {
		t.Errorf("%+v", c)
	}
	if err := r.Err(nil); err == nil || err.Error() != `pool: line 3: MAX_OPEN is "many"; it must be a whole number` {
		t.Error(err)
	}
}
