package life

import (
	"context"
	"fmt"
)

// Turn waits, at most until ctx ends, for the turn to change the pool: one Reload, Pause or look at
// its files goes on at a time. It refuses when the pool goes away. After nil the caller owes an
// EndTurn.
func (s *State) Turn(ctx context.Context) error {
	if err := s.turn.Take(ctx); err != nil {
		return fmt.Errorf("another pause or reload is under way: %w", err)
	}
	err := s.At().Refusal()
	if err != nil {
		s.EndTurn()
	}
	return err
}

// TryTurn takes the turn if it is free. It does not ask for the phase. After true the caller owes
// an EndTurn.
func (s *State) TryTurn() bool { return s.turn.Try() }

// EndTurn gives the turn back.
func (s *State) EndTurn() { s.turn.End() }
