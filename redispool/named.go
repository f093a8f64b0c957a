package redispool

import (
	"errors"
	"fmt"
	"strings"
)

// newError is a fault of the configuration of a pool that has a name.
type newError struct {
	pool string
	err  error
}

func (e *newError) Error() string {
	return fmt.Sprintf("redispool: new %q: %s", e.pool, strings.TrimPrefix(e.err.Error(), "redispool: "))
}

func (e *newError) Unwrap() error { return e.err }

// named says of each of several joined faults which pool it is about. Without a name it changes
// nothing.
func named(pool string, err error) error {
	if pool == "" || err == nil {
		return err
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return &newError{pool, err}
	}
	var errs []error
	for _, e := range joined.Unwrap() { // only the outermost joins are taken apart
		errs = append(errs, named(pool, e))
	}
	return errors.Join(errs...)
}
