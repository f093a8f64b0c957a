package peer_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/peer"
)

// Whatever a server greets with and answers, Identify ends in time, closes its connections, and
// names a protocol by evidence only.
func FuzzIdentify(f *testing.F) {
	for _, s := range []string{
		"", "N", "S", "E\x00\x00\x00", "+PONG\r\n", "-NOAUTH x\r\n", "HTTP/1.1 400 Bad Request\r\n", "SSH-2.0-x\r\n",
		"\x5b\x00\x00\x00\x0a8.4.0\x00", "\x15\x03\x01\x00\x02\x02\x28", "\x16\x03\x03\x00\x01\x02",
	} {
		f.Add("", s)
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, greeting, answer string) {
		if len(greeting)+len(answer) > 1<<12 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			var dials atomic.Int64
			began := time.Now()
			got := peer.Identify(t.Context(), func(ctx context.Context) (net.Conn, error) {
				client, server := net.Pipe()
				if dials.Add(1) > 4 {
					t.Error("a fifth connection")
				}
				go func() { // ends when the client hangs up: the bubble waits for it
					defer func() { _ = server.Close() }()
					if greeting != "" {
						_, _ = io.WriteString(server, greeting)
					}
					b := make([]byte, 2048)
					if n, _ := server.Read(b); n > 0 {
						_, _ = io.WriteString(server, answer)
						_, _ = io.Copy(io.Discard, server)
					}
				}()
				return client, ctx.Err()
			})
			if took := time.Since(began); took > 1500*time.Millisecond {
				t.Errorf("it took %s", took)
			}
			said := greeting
			if said == "" {
				said = answer
			}
			evidence := map[peer.Protocol]bool{
				peer.Unknown: true,
				peer.Redis:   said != "" && (said[0] == '-' || said[0] == '+'),
				peer.HTTP:    strings.HasPrefix(said, "HTTP/"), peer.SSH: strings.HasPrefix(said, "SSH-"),
				peer.MySQL:    len(greeting) > 4 && greeting[3] == 0,
				peer.Postgres: said == "S" || said == "N" || strings.HasPrefix(said, "E\x00\x00"),
				peer.TLS:      said != "" && said[0] == 0x15,
			}
			if !evidence[got] {
				t.Errorf("%q, %q: it is said to be %q", greeting, answer, got)
			}
		})
	})
}
