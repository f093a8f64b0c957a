package httpclient

import (
	"crypto/tls"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/event"
	"github.com/poolkeeper/poolkeeper/internal/expiry"
)

// Expiries says when the certificates expire that the client uses: its own, those that the servers have
// shown last, and the authorities. An expiry that several hosts share is listed once. It does no I/O
// and does not block.
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

// warnOfExpiries says what expires soon, or has expired. It has no timer of its own: new connections,
// checks and looks at files call it.
func (c *Client) warnOfExpiries() {
	c.expiring.DueOf(c.Expiries, func(e poolkeeper.Expiry, now time.Time) { c.events.Emit(event.OfExpiry(e, now)) })
}
