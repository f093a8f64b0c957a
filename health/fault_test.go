package health_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// dial returns the error of dialling an address.
func dial(t *testing.T, network, address string) error {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), network, address)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

// fetch returns the error of a GET.
func fetch(t *testing.T, c *http.Client, address string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

// accepting is a server that does to each connection what serve says.
func accepting(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends when the listener is closed, awaited by the cleanup
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// Errors of real sockets, not made-up ones.
func TestRealNetworkErrorsAreClassified(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes fail on purpose
	t.Cleanup(secure.Close)
	strange := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // does not know the server's certificate
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	wrongName := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "elsewhere.example"},
	}}
	plain := accepting(t, func(c net.Conn) { _, _ = io.WriteString(c, "-ERR not TLS\r\n") })
	hangsUp := accepting(t, func(net.Conn) {})
	resets := accepting(t, func(c net.Conn) {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	})
	read := func(address string, deadline time.Time) error {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(deadline)
		_, err = conn.Read(make([]byte, 1))
		return err
	}
	silent := accepting(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
	expired, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	_, expiredDial := new(net.Dialer).DialContext(expired, "tcp", silent)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, canceledDial := new(net.Dialer).DialContext(canceled, "tcp", silent)

	for name, c := range map[string]struct {
		err  error
		want health.Kind
	}{
		"nobody listens":          {dial(t, "tcp", testkit.FreeAddr(t)), health.KindRefused},
		"no such socket":          {dial(t, "unix", filepath.Join(t.TempDir(), "nobody.sock")), health.KindRefused},
		"unknown authority":       {fetch(t, strange, secure.URL), health.KindTLS},
		"wrong host name":         {fetch(t, wrongName, secure.URL), health.KindTLS},
		"TLS to a plain server":   {fetch(t, strange, "https://"+plain), health.KindTLS},
		"server hangs up":         {read(hangsUp, time.Time{}), health.KindReset},
		"server resets":           {read(resets, time.Time{}), health.KindReset},
		"deadline of the socket":  {read(silent, time.Now().Add(time.Millisecond)), health.KindTimeout},
		"deadline of the context": {expiredDial, health.KindTimeout},
		"context cancelled":       {canceledDial, health.KindCanceled},
	} {
		if c.err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		got := health.Classify(fmt.Errorf("wrapped: %w", c.err))
		if got.Kind != c.want || got.Advice == "" {
			t.Errorf("%s: %+v, want %s, for %v", name, got, c.want, c.err)
		}
	}
	strange.CloseIdleConnections()
}

func TestKnownErrorsAreClassified(t *testing.T) {
	op := func(name string, errno syscall.Errno) error {
		return &net.OpError{Op: name, Net: "tcp", Err: os.NewSyscallError("connect", errno)}
	}
	for _, c := range []struct {
		err  error
		want health.Kind
	}{
		{nil, health.KindNone},
		{errors.New("anything"), health.KindUnknown},
		{&net.DNSError{Err: "no such host", Name: "db", IsNotFound: true}, health.KindDNS},
		{&net.DNSError{Err: "i/o timeout", Name: "db", IsTimeout: true, UnwrapErr: context.DeadlineExceeded}, health.KindDNS},
		{slowError{}, health.KindTimeout},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "server misbehaving", Name: "db"}}, health.KindDNS},
		{&url.Error{Op: "Get", URL: "https://x", Err: context.DeadlineExceeded}, health.KindTimeout},
		{context.Canceled, health.KindCanceled},
		{os.ErrDeadlineExceeded, health.KindTimeout},
		{net.ErrClosed, health.KindReset},
		{io.ErrClosedPipe, health.KindReset},
		{io.ErrUnexpectedEOF, health.KindReset},
		{tls.AlertError(42), health.KindTLS},
		{op("dial", syscall.EHOSTUNREACH), health.KindUnreachable},
		{op("dial", syscall.ENETUNREACH), health.KindUnreachable},
		{op("dial", syscall.ETIMEDOUT), health.KindTimeout},
		{op("dial", syscall.EACCES), health.KindAuthorization},
		{op("dial", syscall.EMFILE), health.KindResources},
		{op("write", syscall.EPIPE), health.KindReset},
		{op("read", syscall.ECONNRESET), health.KindReset},
		{&os.PathError{Op: "open", Path: "/etc/x", Err: syscall.ENOENT}, health.KindUnknown}, // no address was dialled
		{syscall.ENOSPC, health.KindResources},
		{syscall.EINVAL, health.KindUnknown},
		{poolkeeper.ErrDraining, health.KindDraining},
		{fmt.Errorf("x: %w", poolkeeper.ErrClosed), health.KindDraining},
		{health.Degraded(refusedError{}), health.KindRefused},
		{errors.Join(errors.New("first"), refusedError{}), health.KindRefused},
	} {
		if got := health.Classify(c.err); got.Kind != c.want {
			t.Errorf("%v: %s, want %s", c.err, got.Kind, c.want)
		}
	}
	if got := health.Classify(fmt.Errorf("x: %w", refusedError{})); got.Advice != "is the server up?" {
		t.Errorf("the error's own advice is lost: %+v", got)
	}
}

// slowError is a net.Error of a foreign type.
type slowError struct{}

func (slowError) Error() string   { return "too slow" }
func (slowError) Timeout() bool   { return true }
func (slowError) Temporary() bool { return false }

// A run that took too long is a timeout, whatever its probe made of the end of its context; what it
// said is kept.
func TestTimeoutKeepsWhatTheProbeSaid(t *testing.T) {
	text, err := health.TimedOut(2*time.Second, refusedError{})
	if text != "no answer within 2s: dial postgres://***@10.0.0.7:5432: connection refused" {
		t.Errorf("%q", text)
	}
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, refusedError{}) || health.Classify(err).Kind != health.KindTimeout {
		t.Errorf("%v", err)
	}
	if text, _ := health.TimedOut(time.Second, context.DeadlineExceeded); text != "no answer within 1s" {
		t.Errorf("%q", text)
	}
	if text, err := health.TimedOut(time.Second, nil); text != "no answer within 1s" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q", text)
	}
}

// Every kind of failure has something to look at first.
func TestEveryKindHasAdvice(t *testing.T) {
	for _, k := range []health.Kind{
		health.KindRefused, health.KindUnreachable, health.KindDNS, health.KindTimeout, health.KindHung, health.KindCanceled,
		health.KindReset, health.KindTLS, health.KindAuthentication, health.KindAuthorization, health.KindTooManyConnections,
		health.KindReadOnly, health.KindPoolExhausted, health.KindShuttingDown, health.KindStarting, health.KindNotFound,
		health.KindResources, health.KindClusterDown, health.KindProtocol, health.KindDraining, health.KindPanic,
		health.KindStale,
	} {
		if f := health.FaultOf(k); f.Kind != k || f.Advice == "" {
			t.Errorf("%s: %+v", k, f)
		}
	}
	for _, k := range []health.Kind{health.KindNone, health.KindUnknown} {
		if f := health.FaultOf(k); f.Advice != "" {
			t.Errorf("%q: %+v", k, f)
		}
	}
}
