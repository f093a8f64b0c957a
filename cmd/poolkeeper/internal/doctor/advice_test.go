package doctor_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/doctor"
	"github.com/poolkeeper/poolkeeper/internal/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, time.November, 30, 12, 0, 0, 0, time.UTC)

// found is the answer of a server that is well, changed by f.
func found(f func(*doctor.Server)) doctor.Server {
	s := doctor.Server{Kind: doctor.KindPostgres, Reachable: true, TLS: "TLS 1.3"}
	s.Limits.MaxConnections = 100
	s.Budget = doctor.Budget{PerInstance: 11, Instances: 2, Surge: 1, Demand: 33, Granted: 97}
	f(&s)
	return s
}

// budget is that of instances with MaxOpen 20, on a server that grants so many connections.
func budget(instances, granted int) func(*doctor.Server) {
	return func(s *doctor.Server) {
		d := fleet.Of(20, instances)
		s.Budget = doctor.Budget{PerInstance: d.PerInstance, Instances: d.Instances, Surge: d.Surge, Demand: d.Total, Granted: granted}
	}
}

func until(left time.Duration, kind string) func(*doctor.Server) {
	return func(s *doctor.Server) {
		s.Certificates = []doctor.Certificate{{Kind: kind, Subject: "db.example", NotAfter: now.Add(left)}}
	}
}

func TestAdviceNamesTheFieldAndItsValue(t *testing.T) {
	const leaf, ca, day = poolkeeper.ExpiryServerCertificate, poolkeeper.ExpiryCA, 24 * time.Hour
	type circumstances = doctor.Circumstances
	for name, tt := range map[string]struct {
		change         func(*doctor.Server)
		c              circumstances
		severity, text string // text is empty: no finding
	}{
		"all is well": {func(*doctor.Server) {}, circumstances{}, "", ""},
		"the budget fits with a smaller pool": {
			budget(12, 122),
			circumstances{MaxOpen: 20},
			doctor.SeverityError,
			"set MaxOpen to 7: 12 instances and 3 in a rolling update may open 15 × (7+1) = 120 of 122; with MaxOpen 20 they may open 15 × (20+1) = 315",
		},
		"the budget fits exactly": {budget(12, 315), circumstances{MaxOpen: 20}, "", ""},
		"the budget fits with no pool": {
			func(s *doctor.Server) {
				s.Limits.Reserved = 3
				budget(40, 97)(s)
			},
			circumstances{MaxOpen: 20},
			doctor.SeverityError,
			"raise max_connections to 1053, or run fewer instances: the server grants 97, and 40 instances and 10 in a rolling update need 100 even with MaxOpen 1",
		},
		"one instance": {
			func(s *doctor.Server) {
				s.Kind = doctor.KindRedis
				budget(1, 3)(s)
			},
			circumstances{MaxOpen: 20},
			doctor.SeverityError, "raise maxclients to 42, or run fewer instances: the server grants 3, and 1 instance and 1 in a rolling update need 4",
		},
		"the user has a limit": {
			func(s *doctor.Server) {
				s.Limits.UserLimit = 1
				budget(1, 1)(s)
			},
			circumstances{MaxOpen: 20},
			doctor.SeverityError, "raise the limit of the user or database to 42",
		},
		"no limit is known": {func(s *doctor.Server) { s.Budget.Granted = 0 }, circumstances{}, "", ""},
		"a pooler in transaction mode": {
			func(s *doctor.Server) { s.Limits.Pooled, s.Limits.TransactionMode = true, true },
			circumstances{},
			doctor.SeverityWarning, "set default_query_exec_mode=exec in URL",
		},
		"a pooler of unknown mode": {
			func(s *doctor.Server) { s.Limits.Pooled = true }, circumstances{}, doctor.SeverityNote, "a pooler of unknown mode",
		},
		"a pooler that the URL knows of": {
			func(s *doctor.Server) { s.Limits.Pooled, s.Limits.TransactionMode = true, true },
			circumstances{ChoosesExecMode: true},
			doctor.SeverityNote, "the URL sets how pgx runs queries",
		},
		"a proxy":                {func(s *doctor.Server) { s.Limits.Proxied = true }, circumstances{}, doctor.SeverityNote, "a proxy stands before the server"},
		"a certificate for long": {until(31*day, leaf), circumstances{}, "", ""},
		"a certificate for a month": {
			until(29*day, leaf), circumstances{}, doctor.SeverityNote, `the server's certificate "db.example" expires in 29 days`,
		},
		"a certificate for a week": {
			until(7*day, leaf), circumstances{}, doctor.SeverityWarning, `renew the server's certificate "db.example": it expires in 7 days`,
		},
		"a certificate for a day": {until(25*time.Hour, leaf), circumstances{}, doctor.SeverityWarning, "it expires in 25 hours"},
		"an authority for an hour": {
			until(time.Hour, ca), circumstances{}, doctor.SeverityWarning, `renew the authority "db.example": it expires in 60 minutes`,
		},
		"an expired certificate": {
			until(-day, leaf), circumstances{}, doctor.SeverityError, `renew the server's certificate "db.example": it expired on 2026-11-29`,
		},
		"no keep-alive on the server": {
			func(s *doctor.Server) { s.Settings = map[string]string{"tcp-keepalive": "0"} },
			circumstances{},
			doctor.SeverityWarning, "set tcp-keepalive on the server",
		},
		"no TLS to another machine": {func(s *doctor.Server) { s.TLS = "" }, circumstances{}, doctor.SeverityNote, "not encrypted"},
		"no TLS to this machine":    {func(s *doctor.Server) { s.TLS = "" }, circumstances{Local: true}, "", ""},
		"a server that fails": {
			func(s *doctor.Server) { s.Reachable, s.Advice = false, "check the name" },
			circumstances{},
			doctor.SeverityError, "check the name",
		},
		"a server that fails for unknown reasons": {
			func(s *doctor.Server) { s.Reachable = false }, circumstances{}, doctor.SeverityError, "see the error",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tt.c.Now = now
			got := doctor.Advise(found(tt.change), tt.c)
			if tt.text == "" {
				if len(got) != 0 {
					t.Errorf("%+v, want nothing", got)
				}
				return
			}
			if len(got) != 1 || got[0].Severity != tt.severity || !strings.Contains(got[0].Text, tt.text) {
				t.Errorf("%+v, want %s %q", got, tt.severity, tt.text)
			}
		})
	}
}

func TestAdviceOnHTTPAndGRPC(t *testing.T) {
	ok := doctor.HTTP{Status: 200, KeepAlive: true, HasClock: true}
	with := func(f func(*doctor.HTTP)) func(*doctor.Server) {
		return func(s *doctor.Server) {
			h := ok
			f(&h)
			s.Kind, s.HTTP = doctor.KindHTTP, &h
		}
	}
	health := func(g doctor.GRPC) func(*doctor.Server) {
		return func(s *doctor.Server) { s.Kind, s.GRPC = doctor.KindGRPC, &g }
	}
	for name, tt := range map[string]struct {
		change         func(*doctor.Server)
		severity, text string // text is empty: no finding
	}{
		"all is well":                  {with(func(*doctor.HTTP) {}), "", ""},
		"a clock that is a little off": {with(func(h *doctor.HTTP) { h.Clock = -30 }), "", ""},
		"a clock that is behind":       {with(func(h *doctor.HTTP) { h.Clock = -31 }), doctor.SeverityWarning, "31 seconds behind"},
		"a clock that is ahead":        {with(func(h *doctor.HTTP) { h.Clock = 7200 }), doctor.SeverityWarning, "2 hours ahead of"},
		"no keep-alive":                {with(func(h *doctor.HTTP) { h.KeepAlive = false }), doctor.SeverityWarning, "turn keep-alive on"},
		"a redirect to another host": {
			with(func(h *doctor.HTTP) { h.Status, h.Redirect, h.OtherHost = 302, "https://login.example", true }),
			doctor.SeverityWarning, "set BaseURL to https://login.example, or choose another CheckPath",
		},
		"a redirect on the same host": {
			with(func(h *doctor.HTTP) { h.Status, h.Redirect = 301, "https://db.example" }), doctor.SeverityNote, "redirects to another on the same host",
		},
		"no such path":              {with(func(h *doctor.HTTP) { h.Status = 404 }), doctor.SeverityWarning, "set CheckPath to a path that exists"},
		"a bad request":             {with(func(h *doctor.HTTP) { h.Status = 400 }), doctor.SeverityNote, "counts that as an answer"},
		"a bad gateway":             {with(func(h *doctor.HTTP) { h.Status = 502 }), doctor.SeverityError, "a proxy before it does not reach it"},
		"too many requests":         {with(func(h *doctor.HTTP) { h.Status = 429 }), doctor.SeverityWarning, "limits the rate"},
		"a proxy before the server": {with(func(h *doctor.HTTP) { h.Via = "1.1 edge" }), doctor.SeverityNote, "Via: 1.1 edge"},
		"one address of two is dead": {
			func(s *doctor.Server) {
				s.Addresses = []doctor.Address{{Address: "10.0.0.1:443", Connect: 1}, {Address: "[::1]:443", Error: "refused"}}
			},
			doctor.SeverityWarning, "take the addresses that accept no connections out of the name, or start their servers: [::1]:443 (refused), 1 of 2",
		},
		"the proxy of the environment": {func(s *doctor.Server) { s.Proxy = "http://proxy:3128" }, doctor.SeverityNote, "through the proxy http://proxy:3128"},
		"a gRPC server that serves":    {health(doctor.GRPC{Health: "SERVING"}), "", ""},
		"a gRPC server that does not":  {health(doctor.GRPC{Health: "NOT_SERVING"}), doctor.SeverityError, "says NOT_SERVING of the server"},
		"a service that is unknown":    {health(doctor.GRPC{Health: "NotFound", Service: "a.B"}), doctor.SeverityError, `does not know the service "a.B"`},
		"no health protocol":           {health(doctor.GRPC{Health: "Unimplemented"}), doctor.SeverityNote, "lacks gRPC's health protocol"},
		"credentials for health":       {health(doctor.GRPC{Health: "Unauthenticated"}), doctor.SeverityWarning, "without credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			got := doctor.Advise(found(tt.change), doctor.Circumstances{Now: now})
			if tt.text == "" && len(got) == 0 {
				return
			}
			if len(got) != 1 || tt.text == "" || got[0].Severity != tt.severity || !strings.Contains(got[0].Text, tt.text) {
				t.Errorf("%+v, want %s %q", got, tt.severity, tt.text)
			}
		})
	}
}

func TestAdviceBeginsWithTheMostSevere(t *testing.T) {
	s := found(func(s *doctor.Server) {
		until(-time.Hour, poolkeeper.ExpiryServerCertificate)(s)
		s.Settings = map[string]string{"tcp-keepalive": "0"}
		s.TLS = ""
		s.SetSilent(time.Minute)
	})
	var got []string
	for _, f := range doctor.Advise(s, doctor.Circumstances{Now: now}) {
		got = append(got, f.Severity)
	}
	if want := "error warning note note"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestAdviceOfSilence(t *testing.T) {
	const m = time.Minute
	for _, tt := range []struct {
		silent, keepAlive, lifetime time.Duration
		severity, text              string
	}{
		{0, 0, 0, "", ""},
		{5 * m, 2 * m, 0, "", ""},
		{5 * m, 0, 0, doctor.SeverityNote, "silent for 5m; by default"},
		{5 * m, 5 * m, 0, doctor.SeverityWarning, "set KeepAlive below 5m: the server closes silent connections then, and KeepAlive is 5m"},
		{90 * time.Second, 2 * m, 30 * m, doctor.SeverityWarning, "set KeepAlive below 1m30s"},
		{8 * time.Hour, 0, 30 * m, "", ""}, // nothing lives that long
		{2 * time.Hour, 3 * time.Hour, 0, doctor.SeverityWarning, "set KeepAlive below 2h: "},
	} {
		s := found(func(s *doctor.Server) { s.SetSilent(tt.silent) })
		got := doctor.Advise(s, doctor.Circumstances{Now: now, KeepAlive: tt.keepAlive, MaxLifetime: tt.lifetime})
		switch {
		case tt.text == "" && len(got) == 0:
		case len(got) != 1 || got[0].Severity != tt.severity || !strings.Contains(got[0].Text, tt.text):
			t.Errorf("%+v: %+v", tt, got)
		}
	}
}

func TestParseShowsNoSecret(t *testing.T) {
	for url, want := range map[string]struct{ name, kind string }{
		"redis://:sesame@h:1/0": {"redis://h:1/0", doctor.KindRedis},
		"rediss://u:sesame@h":   {"rediss://h", doctor.KindRedis},
		"redis+sentinel://u:sesame@h?master_name=m&password=sesame": {"redis+sentinel://h", doctor.KindRedis},
		"unix://u:sesame@/run/redis.sock":                           {"unix:///run/redis.sock", doctor.KindRedis},
		"postgres://u:sesame@h:5432/d?sslmode=require":              {"postgres://h:5432/d", doctor.KindPostgres},
		"postgresql://u@h/d?password=sesame":                        {"postgresql://h/d", doctor.KindPostgres},
		"https://u:sesame@h/health?token=sesame":                    {"https://h/health", doctor.KindHTTP},
		"grpcs://u:sesame@h:9090/a.B":                               {"grpcs://h:9090/a.B", doctor.KindGRPC},
		"mysql://u:sesame@h/d":                                      {"mysql://h/d", doctor.KindMySQL},
		"mariadb://u:sesame@h/d":                                    {"mariadb://h/d", doctor.KindMySQL},
	} {
		target, err := doctor.Parse("argument 1", url)
		if err != nil || target.Name != want.name || target.Kind != want.kind {
			t.Errorf("%s: %q, %q, %v", url, target.Name, target.Kind, err)
		}
		if text := fmt.Sprintf("%v %+v %#v %s %q %d %x", target, target, target, target, target, target, &target); strings.Contains(text, "sesame") {
			t.Errorf("printed as %s", text)
		}
	}
	for _, url := range []string{"", "sesame", "user:sesame@tcp(h)/d", "amqp://u:sesame@h", "redis://u:sesame%zz@h", "postgres://u:sesame/@h:x"} {
		if _, err := doctor.Parse("argument 1", url); err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%q: %v", url, err)
		}
	}
}
