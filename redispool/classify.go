package redispool

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/health"
)

// errClusterState is what a node of a Cluster that does not serve all slots is reported with.
var errClusterState = errors.New("the Cluster is down: not all slots are served")

// Classify says what kind of failure err is, and what to look at first: the server's answers by
// their first word, the pool's own errors, and what health.Classify knows. nil, and redis.Nil, is
// health.KindNone.
func Classify(err error) health.Fault {
	if e, ok := errors.AsType[*poolkeeper.AcquireError](err); ok {
		return health.Classify(e)
	}
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return health.Fault{}
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return health.FaultOf(health.KindPoolExhausted)
	case errors.Is(err, redis.ErrClosed):
		return health.FaultOf(health.KindDraining)
	case errors.Is(err, errFull):
		return health.FaultOf(health.KindTooManyConnections)
	case errors.Is(err, errClusterState):
		return health.FaultOf(health.KindClusterDown)
	}
	if e, ok := errors.AsType[redis.Error](err); ok {
		return ofAnswer(e.Error())
	}
	if strings.Contains(err.Error(), "all sentinels specified in configuration are unreachable") {
		return health.FaultOf(health.KindUnreachable)
	}
	return health.Classify(err)
}

// ofAnswer goes by the first word of the server's error, which is its code.
func ofAnswer(text string) health.Fault {
	code, rest, _ := strings.Cut(text, " ")
	kind := health.KindUnknown
	switch code {
	case "NOAUTH", "WRONGPASS", "DENIED":
		kind = health.KindAuthentication
	case "NOPERM":
		kind = health.KindAuthorization
	case "READONLY":
		kind = health.KindReadOnly
	case "LOADING":
		kind = health.KindStarting
	case "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "TRYAGAIN", "NOQUORUM", "NOMASTERLINK":
		kind = health.KindClusterDown
	case "OOM", "MISCONF":
		kind = health.KindResources
	case "BUSY":
		kind = health.KindHung
	case "ERR":
		return ofERR(rest)
	}
	return health.FaultOf(kind)
}

// ofERR is for errors without a code of their own.
func ofERR(text string) health.Fault {
	switch {
	case strings.HasPrefix(text, "max number of clients"):
		return health.FaultOf(health.KindTooManyConnections)
	case strings.HasPrefix(text, "invalid password"), strings.HasPrefix(text, "AUTH "), strings.HasPrefix(text, "Client sent AUTH"):
		return health.FaultOf(health.KindAuthentication)
	case strings.HasPrefix(text, "DB index is out of range"), strings.HasPrefix(text, "invalid DB index"),
		strings.HasPrefix(text, "No such master"):
		return health.FaultOf(health.KindNotFound)
	}
	return health.FaultOf(health.KindUnknown)
}

// fault is an error that answers health.Classify.
type fault struct{ error }

func (f fault) Unwrap() error { return f.error }

// HealthFault makes health.Classify know go-redis' error.
func (f fault) HealthFault() health.Fault { return Classify(f.error) }

// asFault wraps an error of go-redis. Its text and errors.Is and errors.As stay the same.
func asFault(err error) error {
	if err == nil {
		return nil
	}
	return fault{err}
}
