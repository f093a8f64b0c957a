package lifecycle

import (
	"bytes"
	"crypto/tls"
	"sync"
	"sync/atomic"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/monotime"
	"github.com/poolkeeper/poolkeeper/internal/smallfile"
)

// certPeriod is the least time between two reads of the files.
const certPeriod = 10 * time.Second

// certFiles is a certificate that other programs renew on disk. It has no goroutine: handshakes read
// the files.
type certFiles struct {
	cert, key string                                 // the files' names
	changed   func(pair *tls.Certificate, err error) // hears of a new pair, or why it is not used

	current atomic.Pointer[tls.Certificate]
	looked  atomic.Int64 // a monotime.Time: when the files were last read

	mu              sync.Mutex // held while looking; guards the following
	certPEM, keyPEM []byte     // as last seen, whether used or not
}

// load reads the files for the first time.
func (f *certFiles) load() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.certPEM, f.keyPEM = nil, nil // a Start that failed has seen them, and must not make this one pass
	pair, err := f.readLocked()
	if err != nil {
		return err
	}
	f.current.Store(pair)
	f.looked.Store(int64(monotime.Now()))
	return nil
}

// readLocked reads the files. It returns nil if they are as last seen.
func (f *certFiles) readLocked() (*tls.Certificate, error) {
	cert, err := smallfile.Read(f.cert)
	if err != nil {
		return nil, err
	}
	key, err := smallfile.Read(f.key)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(cert, f.certPEM) && bytes.Equal(key, f.keyPEM) {
		return nil, nil //nolint:nilnil // nothing has changed
	}
	f.certPEM, f.keyPEM = cert, key
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

// look replaces the certificate if the files hold another valid pair. It reports a file that cannot
// be read, or a pair that does not match, and keeps the old one. Meanwhile other handshakes use the old
// certificate.
func (f *certFiles) look() {
	last := f.looked.Load()
	if monotime.Since(monotime.Time(last)) < certPeriod || !f.mu.TryLock() {
		return
	}
	pair, err := f.readLocked()
	if pair != nil {
		f.current.Store(pair) // under the lock: a later look must not be overwritten
	}
	f.looked.Store(int64(monotime.Now()))
	f.mu.Unlock()
	if pair != nil || err != nil {
		f.changed(pair, err)
	}
}

// get is a tls.Config.GetCertificate.
func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.look()
	return f.current.Load(), nil
}

// config returns a copy of base, which may be nil, that presents the certificate of the files.
func (f *certFiles) config(base *tls.Config) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		c = base.Clone()
	}
	c.Certificates, c.GetCertificate = nil, f.get
	return c
}
