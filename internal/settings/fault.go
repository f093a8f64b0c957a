package settings

import (
	"errors"
	"fmt"
	"strings"
)

// Named returns the faults of a new pool with its name in each: a service may have several pools.
// Without a name it returns err.
func Named(pkg, pool string, err error) error {
	if pool == "" {
		return err
	}
	return EachFault(err, func(fault error) error { return &newError{pkg, pool, fault} })
}

// EachFault wraps each of the errors that err joins, or err itself if it joins none.
func EachFault(err error, wrap func(error) error) error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return wrap(err)
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		errs = append(errs, EachFault(e, wrap))
	}
	return errors.Join(errs...)
}

// newError is a fault of a pool that was not made. It names the package once.
type newError struct {
	pkg, pool string
	err       error
}

func (e *newError) Error() string {
	return fmt.Sprintf("%s: new %q: %s", e.pkg, e.pool, strings.TrimPrefix(e.err.Error(), e.pkg+": "))
}

func (e *newError) Unwrap() error { return e.err }
