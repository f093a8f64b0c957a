package sqlpool

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
	return fmt.Sprintf("sqlpool: new %q: %s", e.pool, strings.TrimPrefix(e.err.Error(), "sqlpool: "))
}

func (e *newError) Unwrap() error { return e.err }

// named says of each of several joined faults which pool it is about. Without a name it changes
// nothing.
func named(pool string, err error) error {
	if pool == "" {
		return err
	}
	return eachFault(err, func(fault error) error { return &newError{pool, fault} })
}

// within says of each of several joined faults which member of a component it is about.
func within(member string, err error) error {
	return eachFault(err, func(fault error) error { return fmt.Errorf("%s: %w", member, fault) })
}

// eachFault wraps each of several joined faults. Only the outermost joins are taken apart.
func eachFault(err error, wrap func(error) error) error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return wrap(err)
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		errs = append(errs, eachFault(e, wrap))
	}
	return errors.Join(errs...)
}
