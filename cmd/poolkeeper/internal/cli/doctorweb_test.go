package cli_test

import (
	"crypto/tls"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/cli"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/internal/test/testserver"
)

// site answers as its path says.
func site(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	switch r.URL.Path {
	case "/health":
		_, _ = io.WriteString(w, "ok")
	case "/closes":
		w.Header().Set("Connection", "close")
	case "/late":
		w.Header().Set("Date", time.Now().Add(-5*time.Minute-30*time.Second).UTC().Format(http.TimeFormat))
		w.Header().Set("Keep-Alive", "timeout=5, max=100")
		w.Header().Set("Via", "1.1 edge")
	case "/moved":
		http.Redirect(w, r, "https://www.example.com/login?token="+password, http.StatusFound)
	case "/down":
		w.WriteHeader(http.StatusServiceUnavailable)
	case "/endless":
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 1<<16))
		}
	case "/private":
		if user, pass, ok := r.BasicAuth(); !ok || user != "app" || pass != password {
			w.WriteHeader(http.StatusUnauthorized)
		}
	case "/hangs":
		<-r.Context().Done()
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// web starts a site, with TLS if config is not nil.
func web(t *testing.T, config *tls.Config) (addr string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(site))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	if config == nil {
		srv.Start()
	} else {
		srv.TLS, srv.EnableHTTP2 = config, true
		srv.StartTLS()
	}
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func (k pki) tls(t *testing.T) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(k.cert, k.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
}

// caller starts a gRPC server. It is well, but for the service "sick".
func caller(t *testing.T, creds credentials.TransportCredentials, withHealth bool) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(creds))
	if withHealth {
		h := grpchealth.NewServer()
		h.SetServingStatus("sick", healthpb.HealthCheckResponse_NOT_SERVING)
		healthpb.RegisterHealthServer(srv, h)
	}
	served := make(chan struct{})
	go func() { // ends with the test
		defer close(served)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() { srv.Stop(); <-served })
	return l.Addr().String()
}

func TestDoctorOfHTTPServers(t *testing.T) {
	k := newPKI(t, year)
	plain, secure := web(t, nil), web(t, k.tls(t))
	expect(t, "http-good", cli.ExitOK, "--tls-ca", k.ca, "http://"+plain+"/health", "https://"+secure+"/health")
	expect(t, "http-to-change", cli.ExitFindings, "http://"+plain+"/closes", "http://"+plain+"/late", "http://"+plain+"/moved",
		"http://"+plain+"/down", "http://"+plain+"/nothing", "http://"+plain+"/private")
	soon, other := newPKI(t, 10*24*time.Hour+time.Minute), newPKIFor(t, "billing.internal", year)
	expect(t, "http-certificates", cli.ExitFindings, "--tls-ca", soon.ca,
		"https://"+web(t, soon.tls(t))+"/health", "https://"+secure+"/health")
	expect(t, "http-other-name", cli.ExitFindings, "--tls-ca", other.ca, "https://"+web(t, other.tls(t))+"/health",
		"grpcs://"+caller(t, credentials.NewTLS(other.tls(t)), true))
}

func TestDoctorOfHTTPAtTheWrongPort(t *testing.T) {
	testkit.Slow(t)
	k := newPKI(t, year)
	free := testkit.FreeAddr(t)
	expect(t, "http-wrong-port", cli.ExitFindings, "--tls-ca", k.ca,
		"https://"+web(t, nil)+"/health", "http://"+web(t, k.tls(t))+"/health", "http://"+free+"/health", "https://shop.invalid/health",
		"https://"+testserver.SharedRedis(t).Addr())
	for url, want := range map[string]string{ // how these servers end the connection is a race
		"http://" + testserver.SharedRedis(t).Addr():           "another kind of server listens there, Redis",
		"http://" + testserver.SharedMariaDB(t).Addr():         "another kind of server listens there, MySQL",
		"http://" + caller(t, insecure.NewCredentials(), true): "give its URL as grpc://",
	} {
		if r := run(t, nil, "doctor", url); r.code != cli.ExitFindings || !strings.Contains(r.out, want) {
			t.Errorf("%d, want %q:\n%s", r.code, want, r.out)
		}
	}
}

func TestDoctorOfGRPCServers(t *testing.T) {
	testkit.Slow(t)
	k := newPKI(t, year)
	creds := credentials.NewTLS(k.tls(t))
	plain, secure, bare := caller(t, insecure.NewCredentials(), true), caller(t, creds, true), caller(t, insecure.NewCredentials(), false)
	expect(t, "grpc-good", cli.ExitOK, "--tls-ca", k.ca, "grpc://"+plain, "grpcs://"+secure, "grpc://"+bare)
	expect(t, "grpc-to-change", cli.ExitFindings, "--tls-ca", k.ca, "grpc://"+plain+"/sick", "grpc://"+plain+"/unknown.Service")
	http1 := k.tls(t)
	http1.NextProtos = []string{"http/1.1"}
	l, err := tls.Listen("tcp", "127.0.0.1:0", http1)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(site), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }() // ends with the test
	t.Cleanup(func() { _ = srv.Close() })
	expect(t, "grpc-wrong-port", cli.ExitFindings, "--tls-ca", k.ca, "grpc://"+secure, "grpcs://"+plain, "grpc://"+web(t, nil),
		"grpcs://"+l.Addr().String(), "grpc://"+testserver.SharedRedis(t).Addr(), "grpc://"+testkit.FreeAddr(t))
}

// A proxy is used as by a client of net/http, and is named.
func TestDoctorGoesThroughTheProxyOfTheEnvironment(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host == "shop.invalid" && r.Header.Get("Proxy-Authorization") != "" {
			w.Header().Set("Via", "1.1 squid")
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	t.Cleanup(proxy.Close)
	env := map[string]string{"http_proxy": "http://u:" + password + "@" + proxy.Listener.Addr().String()}
	r := run(t, env, "doctor", "http://shop.invalid/health")
	if r.code != cli.ExitOK || !strings.Contains(r.out, "through the proxy http://127.0.0.1") || !strings.Contains(r.out, "Via: 1.1 squid") {
		t.Errorf("%d\n%s%s", r.code, r.out, r.err)
	}
}

// Secrets of a URL are sent, and not shown; nor is what the server says in a redirect.
func TestDoctorOfHTTPShowsNoSecret(t *testing.T) { // INV-12
	addr := web(t, nil)
	if r := run(t, nil, "doctor", "http://app:"+password+"@"+addr+"/private?token="+password); r.code != cli.ExitOK {
		t.Errorf("%d\n%s", r.code, r.out)
	}
	basic := base64.StdEncoding.EncodeToString([]byte("app:" + password))
	for _, path := range []string{"/moved", "/down", "/hangs"} {
		r := run(t, nil, "doctor", "--timeout", "500ms", "http://app:"+password+"@"+addr+path+"?token="+password)
		if r.code != cli.ExitFindings || strings.Contains(r.out, basic) {
			t.Errorf("%s: %d\n%s", path, r.code, r.out)
		}
	}
}

// Whatever a server sends, the doctor reads little of it, and ends in time.
func TestDoctorOfHostileHTTPServersEnds(t *testing.T) {
	said := map[string]string{
		"a header without end":      "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20),
		"a body without end":        "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + strings.Repeat("x", 1<<20),
		"control characters":        "HTTP/1.1 200 OK\r\nServer: \x1b[2J\x07evil\r\nVia: \x1b[31mred\r\nContent-Length: 0\r\n\r\n",
		"nothing that is HTTP":      "\x00\x01\x02 \x1b[2J\r\n\r\n",
		"a status that is none":     "HTTP/1.1 999999 What\r\n\r\n",
		"a redirect to nowhere":     "HTTP/1.1 302 Found\r\nLocation: ://%zz\r\nContent-Length: 0\r\n\r\n",
		"a date that is none":       "HTTP/1.1 200 OK\r\nDate: yesterday\r\nKeep-Alive: timeout=-1,=,timeout=x\r\nContent-Length: 0\r\n\r\n",
		"an answer that is cut off": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx",
	}
	for name, text := range said {
		t.Run(name, func(t *testing.T) {
			r := run(t, nil, "doctor", "--timeout", "3s", "http://"+answers(t, text)+"/")
			if strings.ContainsAny(r.out+r.err, "\x1b\x07") || r.out == "" {
				t.Errorf("%d %q %q", r.code, r.out, r.err)
			}
		})
	}
	if r := run(t, nil, "doctor", "--timeout", "2s", "http://"+web(t, nil)+"/endless"); !strings.Contains(r.out, "200 OK") {
		t.Errorf("%d\n%s", r.code, r.out)
	}
}
