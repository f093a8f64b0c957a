package redispool

import (
	"errors"
	"io"
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
	if e, ok := errors.AsType[*explained](err); ok {
		return e.Fault
	}
	if e, ok := errors.AsType[redis.Error](err); ok {
		return ofAnswer(e.Error())
	}
	if notRedis(err) {
		return health.FaultOf(health.KindProtocol)
	}
	if strings.Contains(err.Error(), "all sentinels specified in configuration are unreachable") {
		return health.FaultOf(health.KindUnreachable)
	}
	return health.Classify(err)
}

// notRedis recognizes by its text go-redis' error for an answer that is not one of Redis.
func notRedis(err error) bool {
	text := err.Error()
	return strings.Contains(text, "redis: can't parse") || strings.Contains(text, "redis: invalid reply")
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

// veiled is an error that go-redis does not take for one of the network, and so does not try again,
// with a pause, what cannot succeed. Callers of a Cluster's node see the poolkeeper error in it;
// others get what is in it.
type veiled struct {
	err       error
	elsewhere bool // go-redis is to try another node
}

// veil returns err as go-redis shall see it.
func veil(err error) error { return &veiled{err: err} }

// Error is that of the error itself.
func (v *veiled) Error() string { return v.err.Error() }

// Is shows what is poolkeeper's. An EOF is what go-redis tries again, on another node of a Cluster.
func (v *veiled) Is(target error) bool {
	switch target {
	case poolkeeper.ErrDown, poolkeeper.ErrAcquireTimeout, poolkeeper.ErrClosed, poolkeeper.ErrDraining:
		return errors.Is(v.err, target)
	case io.EOF:
		return v.elsewhere
	}
	return false
}

// As shows what is poolkeeper's.
func (v *veiled) As(target any) bool {
	switch target.(type) {
	case **poolkeeper.DownError, **poolkeeper.AcquireError:
		return errors.As(v.err, target)
	}
	return false
}

// unveiled returns err as a caller shall see it.
func unveiled(err error) error {
	if v, ok := errors.AsType[*veiled](err); ok {
		return v.err
	}
	return err
}

// unveilAll does the same for the commands of a pipeline.
func unveilAll(cmds []redis.Cmder, err error) error {
	if err == nil {
		return nil
	}
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			cmd.SetErr(unveiled(cmd.Err()))
		}
	}
	return unveiled(err)
}
