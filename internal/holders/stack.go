package holders

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/internal/callers"
)

// inner are the packages whose frames stand between a user's code and a pool; a stack is trimmed of
// them on its inner side. External test packages ("sqlpool_test.") are not among them.
//
//nolint:gochecknoglobals // a constant table
var inner = []string{
	"database/sql.",
	"github.com/jackc/pgx/", "github.com/jackc/puddle/",
	"github.com/redis/go-redis/",
	"github.com/go-sql-driver/mysql.",
	"github.com/poolkeeper/poolkeeper/redispool.",
	"github.com/poolkeeper/poolkeeper/sqlpool.",
	"github.com/poolkeeper/poolkeeper/internal/inflight.",
}

// kinds are functions of the libraries that say for what a connection was taken; the rest take it
// for itself.
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

// maxFrames bounds what is kept of a stack, from the pool's own innermost frame on: deep ORMs put
// some 15 between that and the user.
const maxFrames = 32

// render turns program counters into one "function (file:line)" per line, innermost user frame
// first, and tells for what the connection was taken: kind, unless the frames of the library know
// better. If every frame is a pool's own, all are kept: better too much than nothing.
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
	for f := range callers.Frames(pcs) {
		if strings.HasPrefix(f.Function, "github.com/poolkeeper/poolkeeper/internal/holders.") {
			continue
		}
		if firstUser < 0 {
			if !isInner(&f) {
				firstUser = len(frames)
			} else if k, ok := kinds[f.Function]; ok && kind == poolkeeper.KindConn {
				kind = k
			}
		}
		frames = append(frames, f)
	}
	return frames[max(firstUser, 0):], kind
}

// isInner reports whether a frame is not the user's own: one of inner, or of any module that the
// program depends on, which the path of its file tells, also with -trimpath.
func isInner(f *runtime.Frame) bool {
	for _, p := range inner {
		if strings.HasPrefix(f.Function, p) {
			return true
		}
	}
	return strings.Contains(f.File, "@v") || strings.Contains(f.File, "/vendor/")
}

// Site shortens a stack to its innermost frame for use in a sentence: "api.(*Handler).List
// (list.go:88)". It returns "unknown" for an empty stack.
func Site(stack string) string {
	line, _, _ := strings.Cut(stack, "\n")
	function, at, ok := strings.Cut(line, " (")
	if !ok {
		return "unknown"
	}
	function = function[strings.LastIndexByte(function, '/')+1:]
	return function + " (" + filepath.Base(strings.TrimSuffix(at, ")")) + ")"
}
