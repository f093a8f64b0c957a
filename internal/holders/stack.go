package holders

import (
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/poolkeeper/poolkeeper"
)

// inner are the packages whose frames stand between a user's code and a pool; a stack is trimmed of them on its
// inner side. External test packages ("sqlpool_test.") are not among them.
//
//nolint:gochecknoglobals // a constant table
var inner = []string{
	"runtime.",
	"database/sql.",
	"github.com/jackc/pgx/", "github.com/jackc/puddle/",
	"github.com/redis/go-redis/",
	"github.com/go-sql-driver/mysql.",
	"github.com/poolkeeper/poolkeeper/redispool.",
	"github.com/poolkeeper/poolkeeper/sqlpool.",
	"github.com/poolkeeper/poolkeeper/internal/holders.",
	"github.com/poolkeeper/poolkeeper/internal/inflight.",
}

// kinds are functions of the libraries that say for what a connection was taken; the rest take it for itself.
//
//nolint:gochecknoglobals // a constant table
var kinds = map[string]string{
	"database/sql.(*DB).BeginTx":                       poolkeeper.KindTx,
	"database/sql.(*DB).QueryContext":                  poolkeeper.KindRows,
	"database/sql.(*Stmt).QueryContext":                poolkeeper.KindRows,
	"github.com/jackc/pgx/v5/pgxpool.(*Pool).BeginTx":  poolkeeper.KindTx,
	"github.com/jackc/pgx/v5/pgxpool.(*Pool).Query":    poolkeeper.KindRows,
	"github.com/jackc/pgx/v5/pgxpool.(*Pool).QueryRow": poolkeeper.KindRows,
}

const (
	// maxFrames bounds the part of a stack that is kept. Deep ORMs put some 15 frames between the user and the pool.
	maxFrames = 32
	// minFrames is how many a walk takes, until more have turned out to be needed: each costs some 50 to 200 ns.
	minFrames = 8
	// userFrames is how many frames are to be seen from the innermost of the user's own on.
	userFrames = 4
)

// namesUser reports whether a part of a stack shows enough of the user's own frames.
func namesUser(pcs []uintptr) bool {
	for i := len(pcs) - userFrames; i >= 0; i-- {
		if isUsers(pcs[i]) {
			return true
		}
	}
	return false
}

// walkOn walks the whole stack, when a part of it has not shown the user, and has later walks of t take as much as was
// needed here. skip is that of runtime.Callers in the caller.
func (t *Table) walkOn(skip int, pcs *[maxFrames]uintptr) int {
	frames := runtime.Callers(skip+1, pcs[:])
	for i, pc := range pcs[:frames] {
		if !isUsers(pc) {
			continue
		}
		need := int32(min(i+userFrames, maxFrames))
		for d := t.depth.Load(); d > 0 && d < need && !t.depth.CompareAndSwap(d, need); d = t.depth.Load() {
		}
		break
	}
	return frames
}

// known remembers for program counters whether they are the user's. There are as many as places in the program's text
// that lead to a pool.
//
//nolint:gochecknoglobals // a cache of constants
var (
	known   atomic.Pointer[map[uintptr]bool] // never written to
	knowing sync.Mutex                       // held to replace it
)

func isUsers(pc uintptr) bool {
	if m := known.Load(); m != nil {
		if is, ok := (*m)[pc]; ok {
			return is
		}
	}
	f, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	is := !isInner(&f)
	knowing.Lock()
	defer knowing.Unlock()
	next := map[uintptr]bool{pc: is}
	if m := known.Load(); m != nil {
		maps.Copy(next, *m)
	}
	known.Store(&next)
	return is
}

// render turns program counters into one "function (file:line)" per line, innermost user frame first, and tells for
// what the connection was taken: kind, unless the frames of the library know better.
// If every frame is a pool's own, all are kept: better too much than nothing.
func render(pcs []uintptr, kind string) (stack, forWhat string) {
	if len(pcs) == 0 {
		return "", kind
	}
	all, kind := framesOf(pcs, kind)
	var b strings.Builder
	for i, f := range all {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s (%s:%d)", f.Function, f.File, f.Line)
	}
	return b.String(), kind
}

// framesOf returns the user's part of a stack, the whole if there is none.
func framesOf(pcs []uintptr, kind string) (frames []runtime.Frame, forWhat string) {
	firstUser := -1
	for next := runtime.CallersFrames(pcs); ; {
		f, more := next.Next()
		if firstUser < 0 && f.Function != "" {
			if !isInner(&f) {
				firstUser = len(frames)
			} else if k, ok := kinds[f.Function]; ok && kind == poolkeeper.KindConn {
				kind = k
			}
		}
		if f.Function != "" {
			frames = append(frames, f)
		}
		if !more {
			break
		}
	}
	frames = frames[max(firstUser, 0):]
	for len(frames) > 1 && strings.HasPrefix(frames[len(frames)-1].Function, "runtime.") {
		frames = frames[:len(frames)-1]
	}
	return frames, kind
}

// isInner reports whether a frame is not the user's own: one of inner, or of any module that the program depends on,
// which the path of its file tells, also with -trimpath.
func isInner(f *runtime.Frame) bool {
	for _, p := range inner {
		if strings.HasPrefix(f.Function, p) {
			return true
		}
	}
	return strings.Contains(f.File, "@v") || strings.Contains(f.File, "/vendor/")
}

// Site shortens a stack to its innermost frame for use in a sentence: "api.(*Handler).List (list.go:88)".
// It returns "unknown" for an empty stack.
func Site(stack string) string {
	line, _, _ := strings.Cut(stack, "\n")
	function, at, ok := strings.Cut(line, " (")
	if !ok {
		return "unknown"
	}
	function = function[strings.LastIndexByte(function, '/')+1:]
	return function + " (" + filepath.Base(strings.TrimSuffix(at, ")")) + ")"
}
