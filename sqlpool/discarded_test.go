package sqlpool_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/sqlpool"
	"github.com/poolkeeper/poolkeeper/sqlpool/sqlpooltest"
)

// A connection is stale as soon as it is open when Reset is called during its dial. An
// acquisition that dials again at once, for as long as it may, is a dial storm of its own.
func TestAnAcquisitionThrowsAwayOnlySoManyNewConnections(t *testing.T) {
	onBothPools(t, sqlpool.DBConfig{MaxOpen: 20}, func(t *testing.T, _ *sqlpooltest.PostgresServer, network *bubbleNetwork, p bubblePool) {
		t.Helper()
		network.during.set(p.managed.Reset)
		before := network.dialed.Load()
		_, err := p.acquire(t.Context())
		if e, ok := errors.AsType[*poolkeeper.AcquireError](err); !ok || errors.Is(err, poolkeeper.ErrAcquireTimeout) ||
			!strings.Contains(err.Error(), "5 new connections in a row were thrown away before their first use: Reset or Reload was called") {
			t.Errorf("the error is %v (%+v)", err, e)
		}
		if n := network.dialed.Load() - before; n != 5 {
			t.Errorf("%d dials for one acquisition, want 5", n)
		}
		network.during.set(nil)
		release, err := p.acquire(t.Context())
		if err != nil {
			t.Fatalf("once nobody resets: %v", err)
		}
		release()
		advance(time.Second) // what was thrown away is closed in the background
		if s := p.managed.Stats(); s.InUse != 0 || s.Open > 1 {
			t.Errorf("%d in use, %d open", s.InUse, s.Open)
		}
	})
}
