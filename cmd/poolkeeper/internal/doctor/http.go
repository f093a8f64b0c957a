package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/peer"
)

// Bounds of a server's answer.
const (
	mostHeader = 64 << 10
	mostBody   = 64 << 10
	mostShown  = 100 // bytes of a header in the report
)

// HTTP has the answer of an HTTP server to a GET of the URL.
type HTTP struct {
	Status      int     `json:"status"`
	ContentType string  `json:"content_type,omitempty"`
	Redirect    string  `json:"redirect,omitempty"` // scheme and host of Location
	KeepAlive   bool    `json:"keep_alive"`         // a second request went over the same connection
	IdleTimeout float64 `json:"idle_timeout_seconds,omitempty"`
	Via         string  `json:"via,omitempty"`        // a proxy before the server
	Clock       float64 `json:"clock_seconds"`        // how far the server's clock is ahead of this one
	HasClock    bool    `json:"-"`                    // the server has sent the time
	WantsTLS    bool    `json:"wants_tls,omitempty"`  // the port speaks TLS, and says so in plain text
	OtherHost   bool    `json:"other_host,omitempty"` // Redirect leads to another host
}

// askHTTP asks an HTTP server for the URL, twice.
func (s *Server) askHTTP(ctx context.Context, t Target, o Options) error {
	e, err := newEndpoint(s, t.url, "https", o)
	if err != nil {
		return err
	}
	proxy, err := o.proxyOf(e.url)
	if err != nil {
		return err
	}
	if proxy != nil {
		s.Proxy = (&url.URL{Scheme: proxy.Scheme, Host: proxy.Host}).String()
	} else if err = e.reach(ctx, o.dialTimeout()); err != nil {
		return err
	}
	err = e.exchange(ctx, proxy, o.dialTimeout())
	e.keepTLS()
	if err != nil {
		s.Latency.Answer = 0
	}
	if proxy != nil {
		return err
	}
	if err == nil && s.HTTP.Status == http.StatusBadRequest && !e.secure {
		s.HTTP.WantsTLS = peer.Identify(ctx, e.dial) == peer.TLS
	}
	return e.explainHTTP(ctx, err)
}

func (o Options) proxyOf(u *url.URL) (*url.URL, error) {
	if o.Proxy == nil {
		return nil, nil //nolint:nilnil // no proxy
	}
	p, err := o.Proxy(u)
	if err != nil {
		return nil, errors.New("the URL of the proxy in the environment cannot be parsed")
	}
	return p, nil
}

// explainHTTP adds the reason for which an answer could not be read.
func (e *endpoint) explainHTTP(ctx context.Context, err error) error {
	const usePlain, useTLS = "use http:// in BaseURL", "use https:// in BaseURL"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, http.ErrSchemeMismatch):
		return &mismatchError{
			err, "the server answers without TLS on this port",
			"this port does not speak TLS: give the port that does, or " + usePlain, health.KindTLS,
		}
	case strings.Contains(err.Error(), `malformed HTTP response "\x00\x00`): // a frame of HTTP/2
		return &mismatchError{
			err, "the server speaks HTTP/2 without TLS, as gRPC servers do",
			"the port speaks HTTP/2 without TLS: if it is a gRPC server, give its URL as grpc://", health.KindProtocol,
		}
	}
	return e.explain(ctx, err, peer.HTTP, usePlain, useTLS)
}

// exchange makes two requests.
func (e *endpoint) exchange(ctx context.Context, proxy *url.URL, limit time.Duration) error {
	transport := &http.Transport{
		Proxy: func(*http.Request) (*url.URL, error) { return proxy, nil }, TLSClientConfig: e.client, ForceAttemptHTTP2: true,
		MaxResponseHeaderBytes: mostHeader, DisableCompression: true,
		TLSHandshakeTimeout: limit, ResponseHeaderTimeout: limit,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if proxy != nil {
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}
			conn, err := e.dial(ctx)
			if err != nil {
				return nil, err
			}
			return &clientFirst{Conn: conn, wrote: make(chan struct{})}, nil
		},
	}
	defer transport.CloseIdleConnections()
	resp, _, err := e.get(ctx, transport)
	if err != nil {
		return err
	}
	e.read(resp)
	if resp.Close || resp.ProtoMajor == 1 && resp.ProtoMinor == 0 {
		return nil
	}
	_, reused, err := e.get(ctx, transport)
	e.HTTP.KeepAlive = reused && err == nil
	return nil
}

// times records the steps of one request. The transport calls it from other goroutines.
type times struct {
	mu    sync.Mutex // guards the following
	steps steps
}

// steps are the moments of one request. Those that were not reached are zero.
type steps struct {
	connecting, connected time.Time
	hello, secured        time.Time
	began, answered       time.Time // of the request itself
	reused                bool
}

func (t *times) note(f func(s *steps, now time.Time)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.steps, time.Now())
}

func (t *times) all() steps {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.steps
}

func (t *times) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		ConnectStart:      func(string, string) { t.note(func(s *steps, now time.Time) { s.connecting = now }) },
		ConnectDone:       func(string, string, error) { t.note(func(s *steps, now time.Time) { s.connected = now }) },
		TLSHandshakeStart: func() { t.note(func(s *steps, now time.Time) { s.hello = now }) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err == nil {
				t.note(func(s *steps, now time.Time) { s.secured = now })
			}
		},
		GotConn: func(i httptrace.GotConnInfo) {
			t.note(func(s *steps, now time.Time) { s.began, s.reused = now, i.Reused })
		},
		GotFirstResponseByte: func() { t.note(func(s *steps, now time.Time) { s.answered = now }) },
	}
}

// get makes one request, and reads its answer to the end, or as far as mostBody. It follows no
// redirect. Its error does not hold the URL.
func (e *endpoint) get(ctx context.Context, transport *http.Transport) (resp *http.Response, reused bool, err error) {
	t := &times{}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, t.trace()), http.MethodGet, e.url.String(), nil)
	if err != nil {
		return nil, false, errors.New("the URL cannot be requested")
	}
	req.Header.Set("User-Agent", "poolkeeper-doctor")
	if u := e.url.User; u != nil {
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
	}
	began := time.Now()
	resp, err = transport.RoundTrip(req)
	took := t.all()
	e.latency(took)
	if err != nil {
		return nil, false, err
	}
	e.clock(resp.Header, began, time.Now())
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, mostBody))
	_ = resp.Body.Close()
	if err != nil {
		return nil, false, fmt.Errorf("read the answer: %w", err)
	}
	return resp, took.reused, nil
}

// latency keeps the times of a request. A second request replaces only the time of the answer.
func (e *endpoint) latency(s steps) {
	if e.Latency.Connect == 0 && !s.connected.IsZero() {
		e.Latency.Connect = ms(s.connected.Sub(s.connecting))
	}
	if !s.secured.IsZero() {
		e.Latency.TLS = ms(s.secured.Sub(s.hello))
	}
	if !s.answered.IsZero() {
		e.Latency.Answer = ms(max(s.answered.Sub(s.began), time.Microsecond))
	}
}

// clock compares the clocks, unless the answer comes from a cache. Date has no fractions.
func (e *endpoint) clock(h http.Header, began, ended time.Time) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || h.Get("Age") != "" || e.HTTP != nil {
		return
	}
	here := began.Add(ended.Sub(began) / 2)
	e.HTTP = &HTTP{HasClock: true, Clock: date.Add(time.Second / 2).Sub(here).Round(time.Second).Seconds()}
}

// read keeps the status and the headers of the first answer.
func (e *endpoint) read(resp *http.Response) {
	if e.HTTP == nil {
		e.HTTP = &HTTP{}
	}
	h, short := e.HTTP, func(name string) string {
		v := resp.Header.Get(name)
		return v[:min(len(v), mostShown)]
	}
	h.Status, h.ContentType, h.Via = resp.StatusCode, short("Content-Type"), short("Via")
	e.Server.Server, e.Version = strings.TrimSuffix(resp.Proto, ".0"), short("Server")
	if resp.Proto == "HTTP/1.0" {
		e.Server.Server = resp.Proto
	}
	if n, ok := timeoutOf(resp.Header.Get("Keep-Alive")); ok {
		h.IdleTimeout, e.silent = n.Seconds(), n
	}
	if to, err := resp.Location(); err == nil {
		h.Redirect = (&url.URL{Scheme: to.Scheme, Host: to.Host}).String()
		h.OtherHost = !strings.EqualFold(to.Hostname(), e.url.Hostname())
	}
}

// timeoutOf returns the timeout of a Keep-Alive header, as in "timeout=5, max=100".
func timeoutOf(header string) (time.Duration, bool) {
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if n, err := strconv.Atoi(value); strings.EqualFold(name, "timeout") && err == nil && n > 0 && n < 1e6 {
			return time.Duration(n) * time.Second, true
		}
	}
	return 0, false
}

// clientFirst is a connection whose Read waits for the first Write. A server that speaks first would
// otherwise be read before the request is sent, or after it, by chance, and net/http has a different
// error for each.
type clientFirst struct {
	net.Conn

	once  sync.Once
	wrote chan struct{} // closed by the first Write, and by Close
}

func (c *clientFirst) begin() { c.once.Do(func() { close(c.wrote) }) }

func (c *clientFirst) Read(b []byte) (int, error) {
	<-c.wrote
	return c.Conn.Read(b)
}

func (c *clientFirst) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.begin()
	return n, err
}

func (c *clientFirst) Close() error {
	c.begin()
	return c.Conn.Close()
}
