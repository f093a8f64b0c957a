package replica

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/sqlpool/internal/probe"
)

// observation is what one poll of a server has shown. It never changes once it is published.
type observation struct {
	at       time.Time     // before the server was asked
	err      error         // nil: it answers
	readOnly bool          // it takes no writes
	position position      // written by a primary, replayed by a replica; nil: not known
	reported time.Duration // the lag that a replica reports, by its own clock; negative: it does not know
	caughtUp bool          // a replica has replayed all that it has received
	gap      error         // why position or reported is missing, where that can be known
	took     time.Duration // from at to the answer; 0: there was none
	lag      time.Duration // measured; negative: not known
	placed   bool          // lag was measured when a position of the primary was known
}

const unknownLag = time.Duration(-1)

// begin clears o: the server is asked now. What went before, a ping and perhaps a dial, is not part
// of the question.
func (o *observation) begin() {
	*o = observation{at: time.Now(), lag: unknownLag, reported: unknownLag}
}

// question is what a server is asked beside its role.
type question struct {
	lag     bool                     // how far it has come
	reached func(here position) bool // whether that tells its lag, so that the lag it reports is not needed
}

// poll polls one server and draws the consequences. It returns an error if the time that ctx leaves
// ended before the server answered: that tells nothing about the server. PollTimeout ends a poll
// too: that does tell something.
func (s *set) poll(ctx context.Context, m *member) error {
	cfg := s.conf.Load()
	own, cancel := shareOf(ctx)
	defer cancel()
	if m.polling.Lock(own) != nil {
		return noAnswer(ctx, own)
	}
	defer m.polling.Unlock()
	bounded, cancel := context.WithTimeout(own, cfg.PollTimeout)
	defer cancel()
	o := new(observation)
	o.begin()
	ask := s.question(m, cfg)
	o.err = m.server.Ask(bounded, func(ctx context.Context, c probe.Conn) error {
		o.begin()
		err := s.kind.poll(ctx, o, c, ask)
		o.took = max(time.Since(o.at), 1)
		return err
	})
	if o.err != nil && over(own) {
		return noAnswer(ctx, own)
	}
	s.record(ctx, m, o)
	return nil
}

// question is what m is to be asked.
func (s *set) question(m *member, cfg *config) question {
	if cfg.MaxLag <= 0 {
		return question{}
	}
	return question{lag: true, reached: func(p position) bool {
		if m == s.members[0] {
			return true // the primary reports no lag
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		_, known := s.primary.lag(p)
		return known
	}}
}

// shareOf leaves one member less time than ctx has, so that the others' state is returned in time.
func shareOf(ctx context.Context) (context.Context, context.CancelFunc) {
	by, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	left := time.Until(by) * 3 / 4
	cause := fmt.Errorf("no answer within %s: %w", left.Round(time.Millisecond), context.DeadlineExceeded)
	return context.WithTimeoutCause(ctx, left, cause)
}

// over reports whether ctx has ended, or is about to: the network's timers may fire a moment before
// its own.
func over(ctx context.Context) bool {
	by, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(by)
}

// noAnswer is why a member was not waited for any longer. own is over.
func noAnswer(ctx, own context.Context) error {
	<-own.Done()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return context.Cause(own)
}

// pollAll polls every server at once. It returns for each why it was not polled, or nil. A silent
// one delays nothing that is recorded of the others. Replicas whose lag is not known before the
// primary was polled are polled once more.
func (s *set) pollAll(ctx context.Context) []error {
	errs := make([]error, len(s.members))
	known := make(chan struct{}) // closed when the primary was polled
	var all sync.WaitGroup
	for i, m := range s.members {
		all.Go(func() { // ends when its polls do, which ctx and PollTimeout bound; waited for below
			if i == 0 {
				defer close(known)
			}
			errs[i] = s.poll(ctx, m)
			if i == 0 {
				return
			}
			<-known
			if s.unsettled(m) {
				_ = s.poll(ctx, m) // it was polled already
			}
		})
	}
	all.Wait()
	return errs
}

// pollUnsettled brings forward the poll of the replicas whose lag one more poll may tell.
func (s *set) pollUnsettled() {
	for _, m := range s.members[1:] {
		if s.unsettled(m) {
			m.poller.soon()
		}
	}
}

// unsettled reports whether one more poll of a replica may tell its lag.
func (s *set) unsettled(m *member) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg := s.conf.Load()
	return cfg.MaxLag > 0 && m.observed.Load().unsettled(&s.primary, cfg.PollInterval)
}
