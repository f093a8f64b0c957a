package sqlpool

import (
	"context"
	"fmt"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/life"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// check asks the server for a sign of life. Before Start it may be asked too.
func (c *core) check(ctx context.Context) error {
	if c.state.At() >= life.Stopping {
		return fmt.Errorf("sqlpool: check %q: %w", c.poolName(), poolkeeper.ErrClosed)
	}
	if err := c.back.check(ctx); err != nil {
		return fmt.Errorf("sqlpool: check %q: %w", c.poolName(), fault.Wrap(err))
	}
	c.breaker.Answer()
	return nil
}
