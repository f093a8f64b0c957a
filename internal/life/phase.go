package life

import (
	"errors"

	"github.com/poolkeeper/poolkeeper"
)

// Phase is where a pool is in its life. It only grows, but for a Start that failed.
type Phase int

// The phases, in order.
const (
	Unstarted Phase = iota
	Starting
	Running
	Draining // nothing new is let in
	Stopping // callers are gone, or given up; connections are being closed
	Stopped
)

// Refusal is why a pool in this phase lets in nothing new: ErrDraining, ErrClosed or nil.
func (p Phase) Refusal() error {
	switch {
	case p >= Stopping:
		return poolkeeper.ErrClosed
	case p == Draining:
		return poolkeeper.ErrDraining
	default:
		return nil
	}
}

// CanStart is why a pool in this phase cannot be started, or nil. pkg is the package that the error
// speaks of.
func (p Phase) CanStart(pkg string) error {
	if err := p.Refusal(); err != nil {
		return err
	}
	if p != Unstarted {
		return errors.New(pkg + ": already started")
	}
	return nil
}
