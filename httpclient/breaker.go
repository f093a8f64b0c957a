package httpclient

import (
	"context"
	"errors"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/breaker"
	"github.com/poolkeeper/poolkeeper/internal/event"
)

// newBreaker returns the circuit breaker of the server of BaseURL, as FailFastAfter says.
func (c *Client) newBreaker() *breaker.Breaker {
	return breaker.New(breaker.Config{
		Life:         c.life,
		After:        func() time.Duration { return c.config().FailFastAfter },
		Trial:        func(ctx context.Context) error { return c.ask(ctx, c.endpoint.Load()) },
		TrialTimeout: func() time.Duration { return c.config().patience() },
		Judge:        judge,
		Error: func(since time.Time, err error) *poolkeeper.DownError {
			return &poolkeeper.DownError{Pool: c.state.Name(), Since: since, Advice: health.Classify(err).Advice, Err: err}
		},
		WentDown: c.wentDown,
		CameUp:   func(down time.Duration) { c.events.Emit(event.OfUp(down)) },
	})
}

// judge says what an error of a request or a trial means for the server.
func judge(err error) breaker.Verdict {
	if _, answered := errors.AsType[*StatusError](err); answered {
		return breaker.Answered
	}
	switch health.Classify(err).Kind { //nolint:exhaustive // the rest say nothing of the server
	case health.KindRefused, health.KindReset:
		return breaker.Refused
	case health.KindTimeout, health.KindUnreachable, health.KindDNS:
		return breaker.Silent
	case health.KindTLS, health.KindProtocol:
		return breaker.Answered
	default:
		return breaker.Unknown
	}
}

// wentDown ends the requests that wait for a connection.
func (c *Client) wentDown(down *poolkeeper.DownError) {
	for _, x := range c.exchanges() {
		if x.at() < stageWrite {
			x.cancel(down)
		}
	}
	c.events.Emit(event.OfDown(down.Since, down.Err))
}
