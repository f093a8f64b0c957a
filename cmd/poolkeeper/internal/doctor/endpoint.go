package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/peer"
)

// Address is an address to which a host's name resolves.
type Address struct {
	Address string  `json:"address"`
	Connect float64 `json:"connect_ms,omitempty"`
	Error   string  `json:"error,omitempty"` // its class, as of health.Kind; empty: it accepts connections
}

// mostAddresses bounds how many addresses of a name are dialled.
const mostAddresses = 16

// endpoint is an HTTP or gRPC server that is being examined.
type endpoint struct {
	*Server

	url    *url.URL
	secure bool
	addr   string // the first that accepts connections; set once reach has returned nil
	client *tls.Config

	mu      sync.Mutex // guards the following
	version uint16     // of TLS
	chain   []*x509.Certificate
}

// newEndpoint returns the endpoint of a URL.
func newEndpoint(s *Server, address, secureScheme string, o Options) (*endpoint, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the URL cannot be parsed") // its text would hold the URL
	}
	e := &endpoint{Server: s, url: u, secure: u.Scheme == secureScheme}
	host, _ := e.host()
	return e, e.tlsConfigOf(o.TLSFiles, host)
}

// host returns the host and the port of the URL.
func (e *endpoint) host() (name, port string) {
	port = e.url.Port()
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[e.secure]
	}
	return e.url.Hostname(), port
}

// reach resolves the host, and dials each of its addresses once. It fails if none accepts
// connections.
func (e *endpoint) reach(ctx context.Context, limit time.Duration) error {
	host, port := e.host()
	began := time.Now()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return err
	}
	if net.ParseIP(host) == nil {
		e.Latency.Lookup = ms(time.Since(began))
	}
	ips = ips[:min(len(ips), mostAddresses)]
	e.Addresses = make([]Address, len(ips))
	errs := make([]error, len(ips))
	var wg sync.WaitGroup
	for i, ip := range ips {
		addr := net.JoinHostPort(ip.Unmap().String(), port)
		wg.Go(func() { // ends within limit, and is waited for below
			took, err := knock(ctx, addr, limit)
			e.Addresses[i], errs[i] = Address{Address: addr, Connect: ms(took)}, err
			if err != nil {
				e.Addresses[i] = Address{Address: addr, Error: string(health.Classify(err).Kind)}
			}
		})
	}
	wg.Wait()
	at := slices.Index(errs, nil)
	if at < 0 {
		return errors.Join(errs[:1]...)
	}
	e.addr, e.Latency.Connect = e.Addresses[at].Address, e.Addresses[at].Connect
	return nil
}

// knock opens a connection and closes it.
func knock(ctx context.Context, addr string, limit time.Duration) (time.Duration, error) {
	began := time.Now()
	c, err := (&net.Dialer{Timeout: limit}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	return time.Since(began), c.Close()
}

// dial opens a connection to the address that accepts connections.
func (e *endpoint) dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", e.addr)
}

// tlsConfigOf sets a configuration that keeps the server's certificates, trusted or not.
func (e *endpoint) tlsConfigOf(files poolkeeper.TLSFiles, host string) error {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if err := withFiles(conf, files); err != nil {
		return err
	}
	conf.InsecureSkipVerify = true // verify does it, after the chain was kept
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		chain, err := verify(state, conf)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.version, e.chain = state.Version, chain
		return err
	}
	e.client = conf
	return nil
}

// withFiles adds the certificates on disk to conf. Its errors show no contents of the files.
func withFiles(conf *tls.Config, files poolkeeper.TLSFiles) error {
	if files.CA != "" {
		text, err := os.ReadFile(files.CA)
		if err != nil {
			return fmt.Errorf("TLSFiles.CA cannot be read: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("TLSFiles.CA: %s holds no certificate; it must be PEM", files.CA)
		}
	}
	if (files.Cert == "") != (files.Key == "") {
		return errors.New("TLSFiles: Cert and Key are needed both, or neither")
	}
	if files.Cert != "" {
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			return fmt.Errorf("TLSFiles.Cert and TLSFiles.Key: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return nil
}

// verify checks the certificates as crypto/tls does by default. It returns the chain up to the
// authority, or the server's certificates if they are not trusted.
func verify(state tls.ConnectionState, conf *tls.Config) ([]*x509.Certificate, error) {
	certs := state.PeerCertificates
	if len(certs) == 0 {
		return nil, errors.New("the server presents no certificate")
	}
	opts := x509.VerifyOptions{Roots: conf.RootCAs, DNSName: conf.ServerName, Intermediates: x509.NewCertPool()}
	for _, c := range certs[1:] {
		opts.Intermediates.AddCert(c)
	}
	chains, err := certs[0].Verify(opts)
	if err != nil {
		return certs, &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: err}
	}
	return chains[0], nil
}

// keepTLS copies what the handshake has shown to the report.
func (e *endpoint) keepTLS() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.version != 0 {
		e.TLS = tls.VersionName(e.version)
	}
	for i, c := range e.chain {
		kind := poolkeeper.ExpiryServerCertificate
		if i > 0 || c.IsCA {
			kind = poolkeeper.ExpiryCA
		}
		e.Certificates = append(e.Certificates, Certificate{Kind: kind, Subject: subject(c), NotAfter: c.NotAfter})
	}
}

// subject is the common name, or the first other name.
func subject(c *x509.Certificate) string {
	names := append([]string{c.Subject.CommonName}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return cmp.Or(names...)
}

// mismatchError is an error with a finding about the server's protocol.
type mismatchError struct {
	err           error
	finding, hint string
	kind          health.Kind
}

func (e *mismatchError) Error() string { return fmt.Sprintf("%v; %s", e.err, e.finding) }
func (e *mismatchError) Unwrap() error { return e.err }

// HealthFault gives health.Classify its kind and advice.
func (e *mismatchError) HealthFault() health.Fault { return health.Fault{Kind: e.kind, Advice: e.hint} }

// explain identifies the server's protocol if err may come from another one than want.
// usePlain and useTLS say how to change the URL.
func (e *endpoint) explain(ctx context.Context, err error, want peer.Protocol, usePlain, useTLS string) error {
	if err == nil || peer.Settled(err) || ctx.Err() != nil {
		return err
	}
	switch found := peer.Identify(ctx, e.dial); {
	case found == peer.TLS && !e.secure:
		return &mismatchError{err, "the server speaks TLS on this port", "this port speaks TLS: " + useTLS, health.KindTLS}
	case found == want && e.secure:
		return &mismatchError{
			err, "the server answers without TLS on this port",
			"this port does not speak TLS: give the port that does, or " + usePlain, health.KindTLS,
		}
	case found == peer.Unknown, found == peer.TLS, found == want:
		return err
	default:
		return &mismatchError{
			err, "a server that speaks " + string(found) + " answers at this address",
			"another kind of server listens there, " + string(found) + ": check host and port", health.KindProtocol,
		}
	}
}
