// Package peer finds out which protocol a server at an address speaks, for error messages.
//
//	Identify ──▶ wait for a greeting ── MySQL, or a full Redis ──▶ known
//	                   └ silence ──▶ PostgreSQL's SSLRequest │ PING │ ClientHello, side by side
//
// A driver that meets another protocol sees a time-out, or the end of the connection. This package
// tries each protocol. It does not log in, sends no name and no password, and gives no advice.
package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Protocol is the protocol of a server.
type Protocol string

// Protocols that Identify knows. MySQL is MariaDB's too.
const (
	Unknown  Protocol = ""
	Redis    Protocol = "Redis"
	Postgres Protocol = "PostgreSQL"
	MySQL    Protocol = "MySQL"
	TLS      Protocol = "TLS"
	HTTP     Protocol = "HTTP"
	SSH      Protocol = "SSH"
)

// Dial opens a connection to the address, below TLS.
type Dial func(ctx context.Context) (net.Conn, error)

// stepLimit bounds each of the two steps of Identify: the wait for a greeting, and the questions.
const stepLimit = 750 * time.Millisecond

// Identify returns what the server at the address speaks, or Unknown. It opens up to four
// connections and blocks for 1.5 s at most, or until ctx ends.
func Identify(ctx context.Context, dial Dial) Protocol {
	// MySQL counts connections that are given up during its greeting, and locks out a host after a
	// hundred. So it is never asked anything else.
	if p := ask(ctx, dial, listen); p != Unknown {
		return p
	}
	questions := [...]func(context.Context, net.Conn) Protocol{askPostgres, askRedis, askTLS}
	answers := make([]Protocol, len(questions))
	var wg sync.WaitGroup
	for i, q := range questions {
		wg.Go(func() { answers[i] = ask(ctx, dial, q) }) // ends within stepLimit, and is waited for below
	}
	wg.Wait()
	for _, p := range answers {
		if p != Unknown {
			return p
		}
	}
	return Unknown
}

// ask asks one question on a connection of its own.
func ask(ctx context.Context, dial Dial, question func(context.Context, net.Conn) Protocol) Protocol {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	c, err := dial(ctx)
	if err != nil {
		return Unknown
	}
	defer func() { _ = c.Close() }()
	if by, ok := ctx.Deadline(); ok && c.SetDeadline(by) != nil {
		return Unknown
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })()
	return question(ctx, c)
}

// listen waits for a server that sends first.
func listen(_ context.Context, c net.Conn) Protocol {
	said := read(c)
	switch {
	case len(said) > 4 && said[3] == 0 && (said[4] == 10 || said[4] == 0xff):
		return MySQL // a handshake of version 10, or an error such as "Too many connections"
	case strings.HasPrefix(said, "-"):
		return Redis // full, or in protected mode
	}
	return text(said)
}

// text recognises protocols whose answers begin with their name.
func text(said string) Protocol {
	switch {
	case strings.HasPrefix(said, "HTTP/"):
		return HTTP
	case strings.HasPrefix(said, "SSH-"):
		return SSH
	}
	return Unknown
}

// askPostgres sends an SSLRequest (PostgreSQL documentation, "Message Formats"), which is answered
// by one byte.
func askPostgres(_ context.Context, c net.Conn) Protocol {
	if _, err := c.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}); err != nil {
		return Unknown
	}
	switch said := read(c); {
	case said == "S", said == "N", strings.HasPrefix(said, "E\x00\x00"):
		return Postgres
	default:
		return Unknown
	}
}

// askRedis sends a PING that is also a line of text.
func askRedis(_ context.Context, c net.Conn) Protocol {
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return Unknown
	}
	said := read(c)
	if strings.HasPrefix(said, "+") || strings.HasPrefix(said, "-") {
		return Redis
	}
	return text(said)
}

// askTLS does a TLS handshake. It verifies no certificate, because it sends nothing afterwards.
func askTLS(ctx context.Context, c net.Conn) Protocol {
	err := tls.Client(c, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
	if err == nil {
		return TLS
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" { // an alert
		return TLS
	}
	return Unknown
}

// read returns what the server says first.
func read(c net.Conn) string {
	b := make([]byte, 128)
	n, _ := c.Read(b)
	return string(b[:n])
}
