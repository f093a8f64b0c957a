package suite_test

import (
	"context"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// freezes are faults in which the server is there, and does nothing.
func freezes() []scenario {
	return []scenario{
		{
			name:  "frozen for 3 s",
			fault: func(p *place) { p.Freeze(p); sleep(p.span(3 * time.Second)); p.Thaw(p) },
		},
		{
			name: "frozen for good, another server after 2 s", spare: true,
			fault: func(p *place) {
				p.Freeze(p)
				sleep(p.span(2 * time.Second))
				p.moveTo(p.second)
			},
			undo: func(p *place) { p.first.Thaw(p); p.first.forgets(p) },
		},
	}
}

// moveTo has the server's address lead to another server, which the service is to reach from now on.
func (p *place) moveTo(b *backend) {
	p.proxy.Point(b.Addr())
	p.backend = b
}

// forgets waits until the server has noticed that the connections of the application are closed.
func (b *backend) forgets(tb testing.TB) {
	tb.Helper()
	testkit.Eventually(tb, "the server sees no connection of the application", func() bool {
		n := -1
		b.do(tb, func(ctx context.Context) (err error) { n, err = b.admin.connections(ctx); return err })
		return n == 0
	})
}
