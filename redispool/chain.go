package redispool

import (
	"bytes"
	"context"
	"crypto/rand"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strconv"
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

// go-redis does not say which connection a session has got. A command with a token does: the conn
// that it is written on recognises the token, answers by its own number, and sends nothing. So a
// session, or the pool itself, acquires a connection and knows it, without I/O.
//
// The token is random, so that no command of a user's contains it. A connection that is not the
// pool's would pass it on to the server, whose answer is no number.

//nolint:gochecknoglobals // constants of the process
var (
	token = "poolkeeper-" + rand.Text()
	// pingToken and multiToken are the two forms in which it is written: by a command, and by a
	// pipeline. A transaction of one command passes both of go-redis' ways to send a pipeline.
	pingToken  = wire("ping", token)
	multiToken = slices.Concat(wire("multi", token), wire("ping"), wire("exec"))
	// The words as go-redis takes them.
	pingWords, multiWords, inner, exec = []any{"ping", token}, []any{"multi", token}, []any{"ping"}, []any{"exec"}
)

// queued is the answer to a command in a transaction.
const queued = "QUEUED"

// wire returns a command as go-redis writes it.
func wire(words ...string) []byte {
	b := appendLength(nil, '*', len(words))
	for _, w := range words {
		b = append(append(appendLength(b, '$', len(w)), w...), "\r\n"...)
	}
	return b
}

func appendLength(b []byte, kind byte, n int) []byte {
	return append(strconv.AppendInt(append(b, kind), int64(n), 10), "\r\n"...)
}

// parsed returns the words of the command at the beginning of b, and what follows it. It reports
// false if b does not contain all of the command.
func parsed(b []byte) (words []string, rest []byte, ok bool) {
	n, b, ok := length(b, '*')
	for ; ok && n > 0; n-- {
		var size int
		if size, b, ok = length(b, '$'); !ok || len(b)-2 < size { // size+2 might overflow
			return nil, nil, false
		}
		words = append(words, string(b[:size]))
		b = b[size+2:]
	}
	return words, b, ok
}

// length parses one line of a command: its kind and a number.
func length(b []byte, kind byte) (n int, rest []byte, ok bool) {
	line, rest, ok := bytes.Cut(b, []byte("\r\n"))
	if !ok || len(line) < 2 || line[0] != kind {
		return 0, nil, false
	}
	n, err := strconv.Atoi(string(line[1:]))
	return n, rest, err == nil && n >= 0
}

// commandName returns the name of the command that b begins with, in lower case, or "".
func commandName(b []byte) string {
	_, rest, ok := length(b, '*')
	if !ok {
		return ""
	}
	n, rest, ok := length(rest, '$')
	if !ok || len(rest) < n {
		return ""
	}
	return strings.ToLower(string(rest[:n]))
}

// askByCommand acquires the connection of a chain by a command with the token, and returns the
// answer.
func askByCommand(ctx context.Context, next redis.ProcessHook) (answer string, err error) {
	cmd := redis.NewStatusCmd(ctx, pingWords...)
	err = next(ctx, cmd)
	return cmd.Val(), err
}

// askByPipeline does the same by a pipeline.
func askByPipeline(ctx context.Context, next redis.ProcessPipelineHook) (answer string, err error) {
	multi, ping := redis.NewStatusCmd(ctx, multiWords...), redis.NewStatusCmd(ctx, inner...)
	err = next(ctx, []redis.Cmder{multi, ping, redis.NewSliceCmd(ctx, exec...)})
	if answer = ping.Val(); answer == queued { // so it is not read as a transaction
		answer = multi.Val()
	}
	return answer, err
}

// connOf returns the connection that has given this answer to a token, or nil.
func (n *node) connOf(answer string) *conn {
	serial, err := strconv.ParseUint(answer, 10, 64)
	if err != nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conns[serial]
}

// takeToken reports whether b is a token, and prepares the answer. The connection does not count as
// used by it.
func (c *conn) takeToken(b []byte) bool {
	isPing := bytes.Equal(b, pingToken)
	if !isPing && !bytes.Equal(b, multiToken) {
		return false
	}
	c.used.Store(c.heard.Load())
	answer := append(c.start.room[:0], '+')
	answer = append(strconv.AppendUint(answer, c.start.serial, 10), "\r\n"...)
	if !isPing {
		first := answer
		answer = append(append(answer, "+"+queued+"\r\n*1\r\n"...), first...)
	}
	c.start.answer = answer
	c.answering = true
	return true
}

// answerToken reads the answer that takeToken has prepared.
func (c *conn) answerToken(b []byte) int {
	n := copy(b, c.start.answer)
	c.start.answer = c.start.answer[n:]
	c.answering = len(c.start.answer) > 0
	return n
}
