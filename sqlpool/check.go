package sqlpool

import (
	"context"
	"fmt"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// check asks the server for a sign of life. Before Start it may be asked too.
func (m *manager) check(ctx context.Context) error {
	if m.state.At() >= life.Stopping {
		return fmt.Errorf("sqlpool: check %q: %w", m.poolName(), poolkeeper.ErrClosed)
	}
	if err := m.back.check(ctx); err != nil {
		return fmt.Errorf("sqlpool: check %q: %w", m.poolName(), fault.Wrap(err))
	}
	m.breaker.Answer()
	return nil
}
