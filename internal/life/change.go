package life

import (
	"context"
	"fmt"
)

// BeginChange waits, at most until ctx ends, for the right to change the pool: one Reload, Pause or
// look at its files goes on at a time. It refuses when the pool goes away. After nil the caller owes
// an EndChange.
func (s *State) BeginChange(ctx context.Context) error {
	if err := s.changing.Lock(ctx); err != nil {
		return fmt.Errorf("another pause or reload is under way: %w", err)
	}
	err := s.At().Refusal()
	if err != nil {
		s.EndChange()
	}
	return err
}

// TryBeginChange begins a change if none is under way. It does not ask for the phase. After true the
// caller owes an EndChange.
func (s *State) TryBeginChange() bool { return s.changing.TryLock() }

// EndChange lets the next change begin.
func (s *State) EndChange() { s.changing.Unlock() }
