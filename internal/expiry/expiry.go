// Package expiry knows when the certificates and the password of a pool expire, and when to warn.
//
//	tls.Config, files ──▶ Book ◀── handshakes: the server's leaf, and the CA that verified it
//	                       │  ◀── the server: until when the password is valid
//	                       ├──▶ List
//	                       └──▶ Watch: soon, once a day; expired, again
//
// It starts no goroutine: a pool calls Watch when something else has woken it, which is a check, a
// dial or a look at its files.
package expiry

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// mostServers bounds how many servers a Book remembers. Those not seen for longest are forgotten.
const mostServers = 64

// Book holds the expiries of the connections that one configuration opens. All methods are safe for
// concurrent use. A nil Book is empty.
type Book struct {
	own      []poolkeeper.Expiry // the client's certificates; never changes
	files    []poolkeeper.Expiry // CAs; they count until a handshake has shown which of them is in use; never changes
	versions atomic.Uint64       // grows with each change

	mu       sync.Mutex // guards the following
	servers  map[string]server
	password time.Time // until when it is valid; zero: that is not known
}

// server holds the certificates of one handshake.
type server struct {
	leaf, ca poolkeeper.Expiry // ca is zero if the leaf was not verified
	seen     time.Time
}

// New returns the Book of connections that use config, which may be nil. cas are the authorities read
// from a file, because an x509.CertPool does not list its certificates.
func New(config *tls.Config, cas []*x509.Certificate) *Book {
	b := new(Book)
	if config != nil {
		b.own = OfPairs(poolkeeper.ExpiryClientCertificate, config.Certificates...)
		for _, ca := range cas {
			b.files = append(b.files, Of(poolkeeper.ExpiryCA, ca))
		}
	}
	return b
}

// Of returns the expiry of a certificate.
func Of(kind string, c *x509.Certificate) poolkeeper.Expiry {
	return poolkeeper.Expiry{Kind: kind, Subject: subject(c), NotAfter: c.NotAfter}
}

// OfPairs returns the expiry of the leaf of each pair.
func OfPairs(kind string, pairs ...tls.Certificate) []poolkeeper.Expiry {
	var out []poolkeeper.Expiry
	for _, p := range pairs {
		leaf := p.Leaf
		if leaf == nil && len(p.Certificate) > 0 {
			leaf, _ = x509.ParseCertificate(p.Certificate[0]) // nil if it is none: the handshake says so
		}
		if leaf != nil {
			out = append(out, Of(kind, leaf))
		}
	}
	return out
}

// subject is the common name, or the first other name.
func subject(c *x509.Certificate) string {
	switch {
	case c.Subject.CommonName != "":
		return c.Subject.CommonName
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	case len(c.IPAddresses) > 0:
		return c.IPAddresses[0].String()
	case len(c.URIs) > 0:
		return c.URIs[0].String()
	}
	return ""
}

// Saw notes a handshake that has succeeded. Of each server name the last one counts.
func (b *Book) Saw(shake tls.ConnectionState) {
	if b == nil || len(shake.PeerCertificates) == 0 {
		return
	}
	leaf := shake.PeerCertificates[0]
	s := server{leaf: Of(poolkeeper.ExpiryServerCertificate, leaf), ca: verifier(shake.VerifiedChains)}
	name := cmp.Or(shake.ServerName, s.leaf.Subject) // an IP address is no server name
	s.seen = time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, known := b.servers[name]; !known || key(old.leaf) != key(s.leaf) || key(old.ca) != key(s.ca) {
		b.versions.Add(1)
	}
	if b.servers == nil {
		b.servers = make(map[string]server)
	}
	b.servers[name] = s
	if len(b.servers) > mostServers {
		b.forgetOldestLocked()
	}
}

func (b *Book) forgetOldestLocked() {
	oldest := ""
	for name, s := range b.servers {
		if oldest == "" || s.seen.Before(b.servers[oldest].seen) {
			oldest = name
		}
	}
	delete(b.servers, oldest)
}

// verifier returns the authority that the verified chains depend on: the first to expire of the
// chain that lasts for longest.
func verifier(chains [][]*x509.Certificate) (longest poolkeeper.Expiry) {
	for _, chain := range chains {
		var first *x509.Certificate
		for _, c := range chain[min(1, len(chain)):] { // behind the leaf
			if first == nil || c.NotAfter.Before(first.NotAfter) {
				first = c
			}
		}
		if first != nil && first.NotAfter.After(longest.NotAfter) {
			longest = Of(poolkeeper.ExpiryCA, first)
		}
	}
	return longest
}

// SetPassword notes until when the password is valid; the zero time if that is not known.
func (b *Book) SetPassword(until time.Time) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.password.Equal(until) {
		b.versions.Add(1)
	}
	b.password = until
}

// List returns each expiry once, the earliest first.
func (b *Book) List() []poolkeeper.Expiry {
	if b == nil {
		return nil
	}
	out := slices.Clone(b.own)
	b.mu.Lock()
	verified := false
	for _, s := range b.servers {
		out = append(out, s.leaf)
		if s.ca != (poolkeeper.Expiry{}) {
			out, verified = append(out, s.ca), true
		}
	}
	if !b.password.IsZero() {
		out = append(out, poolkeeper.Expiry{Kind: poolkeeper.ExpiryCredentials, NotAfter: b.password})
	}
	b.mu.Unlock()
	if !verified {
		out = append(out, b.files...)
	}
	return Sorted(out)
}

// Sorted sorts list, the first to expire first, and returns it with each expiry once.
func Sorted(list []poolkeeper.Expiry) []poolkeeper.Expiry {
	slices.SortFunc(list, func(x, y poolkeeper.Expiry) int {
		return cmp.Or(x.NotAfter.Compare(y.NotAfter), cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Subject, y.Subject))
	})
	return slices.CompactFunc(list, func(x, y poolkeeper.Expiry) bool { return key(x) == key(y) })
}

// id is an Expiry as a key.
type id poolkeeper.Expiry

func key(e poolkeeper.Expiry) id {
	e.NotAfter = e.NotAfter.UTC().Round(0) //nolint:forbidigo // so that equal dates are the same
	return id(e)
}
