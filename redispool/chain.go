package redispool

import (
	"maps"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// chainKind is what go-redis builds a chain of hooks for. It builds one anew for every Conn and
// Watch, for the handshake of every new connection, and when a hook is added.
type chainKind uint8

const (
	chainUnknown chainKind = iota // none of the following; see link
	chainRoot                     // the client's own commands, anew because a hook is added
	chainClone                    // those of a copy of the client
	chainConn                     // Client.Conn: a connection lent to one caller
	chainWatch                    // Client.Watch
)

// kindByMethod names the exported methods of go-redis that build chains. A method without a
// receiver here may have any.
//
//nolint:gochecknoglobals // a constant table
var kindByMethod = map[string]chainKind{
	"AddHook":                 chainRoot,
	"WithTimeout":             chainClone,
	"(*Client).Conn":          chainConn,
	"(*Client).EphemeralConn": chainConn,
	"(*Client).Watch":         chainWatch,
}

// goRedis begins the name of every function of go-redis.
//
//nolint:gochecknoglobals // a constant
var goRedis = reflect.TypeFor[redis.Client]().PkgPath() + "."

// kindOfChain says what the chain being built is for, from the first exported method of go-redis on
// its caller's stack. It skips the frames of the pool's own, of which there are skip.
func kindOfChain(skip int) chainKind {
	var pcs [6]uintptr // no exported method that builds a chain is further from a hook
	for _, pc := range pcs[:runtime.Callers(skip+2, pcs[:])] {
		if f := frameAt(pc); f.decides {
			return f.kind
		}
	}
	return chainUnknown
}

// frame is what one function on the stack says about a chain.
type frame struct {
	decides bool
	kind    chainKind
}

// frames remembers the answers of frameAt. There are as many as calls in go-redis on the way to a
// hook.
//
//nolint:gochecknoglobals // a cache of constants
var frames struct {
	known atomic.Pointer[map[uintptr]frame]
	mu    sync.Mutex // serialises the writers of known, which is never changed but replaced
}

// frameAt returns what the function at pc says. runtime.Callers returns a pc for each call, inlined
// ones included.
func frameAt(pc uintptr) frame {
	if known := frames.known.Load(); known != nil {
		if f, ok := (*known)[pc]; ok {
			return f
		}
	}
	at, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	f := frameOf(at.Function)
	frames.mu.Lock()
	defer frames.mu.Unlock()
	next := map[uintptr]frame{pc: f}
	if known := frames.known.Load(); known != nil {
		maps.Copy(next, *known)
	}
	frames.known.Store(&next)
	return f
}

// frameOf returns what a function says by its name.
func frameOf(function string) frame {
	name, ok := strings.CutPrefix(function, goRedis)
	if !ok {
		return frame{}
	}
	if kind, ok := kindByMethod[name]; ok {
		return frame{decides: true, kind: kind}
	}
	method := name[strings.LastIndexByte(name, ')')+1:]
	method = strings.TrimPrefix(method, ".")
	if kind, ok := kindByMethod[method]; ok {
		return frame{decides: true, kind: kind}
	}
	exported := method != "" && method[0] >= 'A' && method[0] <= 'Z'
	return frame{decides: exported}
}
