package sqlpool

import (
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/sqlpool/internal/fault"
)

// Classify says what kind of failure err is, and what to look at first: PostgreSQL by SQLSTATE,
// MySQL and MariaDB by number, the pool's own errors, and what health.Classify knows. nil is
// health.KindNone.
func Classify(err error) health.Fault { return fault.Classify(err) }
