package httpclient

import (
	"errors"

	"github.com/poolkeeper/poolkeeper/health"
	"github.com/poolkeeper/poolkeeper/internal/breaker"
)

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
