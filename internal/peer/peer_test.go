package peer_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/peer"
	"github.com/poolkeeper/poolkeeper/internal/test/testcerts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a server that says greeting, and answers the question that begins with a key.
type script struct {
	greeting string
	answers  map[string]string
	secure   *tls.Config
}

func (s script) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	if s.secure != nil {
		c = tls.Server(c, s.secure)
	}
	if s.greeting != "" {
		_, _ = io.WriteString(c, s.greeting)
	}
	b := make([]byte, 2048)
	n, _ := c.Read(b)
	for question, answer := range s.answers {
		if strings.HasPrefix(string(b[:n]), question) {
			_, _ = io.WriteString(c, answer)
		}
	}
	_, _ = c.Read(b) // until the client hangs up
}

func (s script) dial(t *testing.T) peer.Dial {
	t.Helper()
	return func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		done := make(chan struct{})
		go func() { // ends when the client hangs up, which Identify does
			defer close(done)
			s.serve(server)
		}()
		t.Cleanup(func() { <-done })
		return client, nil
	}
}

func TestIdentifyKnowsProtocolsByTheirAnswers(t *testing.T) { //nolint:tparallel // its cases wait side by side, beside no other test
	const sslRequest = "\x00\x00\x00\x08"
	secure := &tls.Config{Certificates: []tls.Certificate{testcerts.New(t).Pair(t, "server")}, MinVersion: tls.VersionTLS12}
	mutual := secure.Clone()
	mutual.ClientAuth, mutual.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
	for name, tt := range map[string]struct {
		server script
		want   peer.Protocol
	}{
		"Redis":                            {script{answers: map[string]string{"PING": "+PONG\r\n"}}, peer.Redis},
		"Redis with a password":            {script{answers: map[string]string{"PING": "-NOAUTH Authentication required.\r\n"}}, peer.Redis},
		"Redis that is full":               {script{greeting: "-ERR max number of clients reached\r\n"}, peer.Redis},
		"PostgreSQL":                       {script{answers: map[string]string{sslRequest: "N"}}, peer.Postgres},
		"PostgreSQL with TLS":              {script{answers: map[string]string{sslRequest: "S"}}, peer.Postgres},
		"MySQL":                            {script{greeting: "\x5b\x00\x00\x00\x0a8.4.0\x00"}, peer.MySQL},
		"MySQL that is full":               {script{greeting: "\x17\x00\x00\x00\xff\x10\x04Too many connections"}, peer.MySQL},
		"TLS":                              {script{secure: secure}, peer.TLS},
		"TLS that demands a certificate":   {script{secure: mutual}, peer.TLS},
		"a web server":                     {script{answers: map[string]string{"PING": "HTTP/1.1 400 Bad Request\r\n"}}, peer.HTTP},
		"a shell":                          {script{greeting: "SSH-2.0-OpenSSH_9.2\r\n"}, peer.SSH},
		"a server that says nothing":       {script{}, peer.Unknown},
		"a server that greets in its ways": {script{greeting: "220 mail.example ESMTP\r\n"}, peer.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := peer.Identify(t.Context(), tt.server.dial(t)); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestIdentifyOfNoServerIsUnknown(t *testing.T) {
	refuse := func(context.Context) (net.Conn, error) { return nil, errors.New("refused") }
	if got := peer.Identify(t.Context(), refuse); got != peer.Unknown {
		t.Errorf("%q", got)
	}
}

func TestMySQLIsAskedNothing(t *testing.T) {
	dials := 0
	dial := script{greeting: "\x5b\x00\x00\x00\x0a8.4.0\x00"}.dial(t)
	got := peer.Identify(t.Context(), func(ctx context.Context) (net.Conn, error) { dials++; return dial(ctx) })
	if got != peer.MySQL || dials != 1 {
		t.Errorf("%q by %d connections", got, dials)
	}
}

func TestCompareSaysWhatDiffers(t *testing.T) {
	redis := peer.Words{Want: peer.Redis, UseTLS: "turn it on", UsePlain: "turn it off"}
	postgres := peer.Words{Want: peer.Postgres, UseTLS: "turn it on"}
	for _, c := range []struct {
		words   peer.Words
		found   peer.Protocol
		secure  bool
		differs bool
		tls     bool
		finding string
		advice  string
	}{
		{redis, peer.Unknown, false, false, false, "", ""},
		{redis, peer.Redis, false, false, false, "", ""},
		{redis, peer.TLS, true, false, false, "", ""},
		{redis, peer.Redis, true, true, true, "without TLS on this port", "turn it off"},
		{redis, peer.TLS, false, true, true, "speaks TLS on this port", "turn it on"},
		{redis, peer.Postgres, true, true, false, "a PostgreSQL server answers at this address, not Redis", "check host and port"},
		{redis, peer.HTTP, false, true, false, "an HTTP server answers", "check host and port"},
		{postgres, peer.Postgres, true, false, false, "", ""},
		{postgres, peer.Postgres, false, false, false, "", ""},
	} {
		m, differs := c.words.Compare(c.found, c.secure)
		if differs != c.differs || m.TLS != c.tls || !strings.Contains(m.Finding, c.finding) || !strings.Contains(m.Advice, c.advice) {
			t.Errorf("%s, found %q, TLS %v: %+v, %v", c.words.Want, c.found, c.secure, m, differs)
		}
	}
}
