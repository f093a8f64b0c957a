package httpclient

import (
	"crypto/tls"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/expiry"
)

// Expiries lists when the client's certificates expire. They are its own, the authorities, and the
// certificates that the servers presented last. It lists a certificate that several hosts share once.
// It does no I/O and does not block.
func (c *Client) Expiries() []poolkeeper.Expiry {
	var all []poolkeeper.Expiry
	for _, h := range c.rotation.Load().all {
		all = append(all, h.endpoint.Load().book.List()...)
	}
	return expiry.Sorted(all)
}

// watchHandshakes makes each TLS handshake note the server's certificate.
func (c *Client) watchHandshakes(secure *tls.Config, book *expiry.Book) {
	given := secure.VerifyConnection
	secure.VerifyConnection = func(shake tls.ConnectionState) error {
		if given != nil {
			if err := given(shake); err != nil {
				return err
			}
		}
		book.Saw(shake)
		c.expiring.Renewed()
		return nil
	}
}

// warnOfExpiries emits an event for each certificate that expires soon or has expired. It has no timer
// of its own: new connections, checks and reads of files call it.
func (c *Client) warnOfExpiries() {
	c.expiring.DueOf(c.Expiries, func(e poolkeeper.Expiry, now time.Time) { c.events.Emit(event.OfExpiry(e, now)) })
}
