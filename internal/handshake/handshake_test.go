package handshake_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/handshake"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listening is a dialer to a TLS server.
func listening(t *testing.T, config *tls.Config) handshake.DialFunc {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends when the client hangs up, or the test ends
		defer close(done)
		if c, err := l.Accept(); err == nil {
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
}

func TestStepsAreTimedUntilReady(t *testing.T) {
	ca := testcerts.New(t)
	server := &tls.Config{Certificates: []tls.Certificate{ca.Pair(t, "server.example")}, MinVersion: tls.VersionTLS13}
	var w handshake.Watch
	user := 0
	config := w.Config(&tls.Config{
		RootCAs: ca.Pool(), ServerName: "server.example", MinVersion: tls.VersionTLS13,
		VerifyConnection: func(tls.ConnectionState) error { user++; return nil },
	})
	raw, err := w.Dial(listening(t, server))(t.Context(), "tcp", "server.example:1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	if err := tls.Client(raw, config).HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Ready()
	if _, err := w.Dial(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("later") })(t.Context(), "", ""); err == nil {
		t.Error("no error")
	}
	var info poolkeeper.ServerInfo
	w.Report(&info, time.Hour) // what was spent on something else is never more than there was
	l := info.Latency
	if l.Connect <= 0 || l.TLS <= 0 || l.Login != time.Microsecond || user != 1 {
		t.Errorf("%+v, and the user's own was called %d times", l, user)
	}
	if info.TLS != "TLS 1.3" || len(info.Certificates) != 1 || info.Certificates[0].Subject != "server.example" {
		t.Errorf("%+v", info)
	}
}

func TestCertificatesThatFailAreKept(t *testing.T) {
	ca, other := testcerts.New(t), testcerts.New(t)
	var w handshake.Watch
	raw, err := w.Dial(listening(t, &tls.Config{Certificates: []tls.Certificate{ca.Pair(t, "server.example")}, MinVersion: tls.VersionTLS13}))(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	config := w.Config(&tls.Config{RootCAs: other.Pool(), ServerName: "server.example", MinVersion: tls.VersionTLS13})
	err = tls.Client(raw, config).HandshakeContext(t.Context())
	_ = raw.Close()
	w.Failed(err)
	var info poolkeeper.ServerInfo
	w.Report(&info, 0)
	if err == nil || len(info.Certificates) != 1 || info.Latency.TLS != 0 || info.Latency.Login != 0 {
		t.Errorf("%v: %+v", err, info)
	}
}

func TestPingsAreRanked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l poolkeeper.Latency
		n := 0
		err := handshake.Pings(t.Context(), &l, func(context.Context) error {
			n++
			time.Sleep(time.Duration(n) * time.Microsecond)
			return nil
		})
		if err != nil || n != 50 || l.Pings != 50 || l.PingP50 != 25*time.Microsecond || l.PingP99 != 50*time.Microsecond {
			t.Errorf("%v: %d, %+v", err, n, l)
		}
		if err := handshake.Pings(t.Context(), &l, func(context.Context) error { time.Sleep(300 * time.Millisecond); return nil }); err != nil || l.Pings != 4 {
			t.Errorf("%v: %d slow pings, want those of a second", err, l.Pings)
		}
		failure := errors.New("lost")
		if err := handshake.Pings(t.Context(), &l, func(context.Context) error { return failure }); !errors.Is(err, failure) {
			t.Errorf("%v", err)
		}
		n = 0
		if err := handshake.Pings(t.Context(), &l, func(context.Context) error {
			if n++; n == 4 {
				return failure
			}
			return nil
		}); err != nil || l.Pings != 3 {
			t.Errorf("%v: %+v", err, l)
		}
	})
}

// Drivers keep all of a line or a message in memory.
func TestAServerThatSendsWithoutEndIsCutOff(t *testing.T) {
	var w handshake.Watch
	dial := w.Dial(func(context.Context, string, string) (net.Conn, error) {
		c, s := net.Pipe()
		go func() { // ends when the client hangs up
			for b := make([]byte, 1<<20); ; {
				if _, err := s.Write(b); err != nil {
					return
				}
			}
		}()
		return c, nil
	})
	for range 2 { // the second one is not watched
		c, err := dial(t.Context(), "tcp", "server.example:1")
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, c)
		if n > 20<<20 || err == nil || !strings.Contains(err.Error(), "more than 16 MiB") {
			t.Errorf("%d bytes, %v", n, err)
		}
		defer func() { _ = c.Close() }()
	}
}
