package holders

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
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

// render turns program counters into one "function (file:line)" per line, innermost user frame first.
// If every frame is a pool's own, all are kept: better too much than nothing.
func render(pcs []uintptr) string {
	if len(pcs) == 0 {
		return ""
	}
	var all []runtime.Frame
	firstUser := -1
	frames := runtime.CallersFrames(pcs)
	for {
		f, more := frames.Next()
		if f.Function != "" {
			if firstUser < 0 && !isInner(f.Function) {
				firstUser = len(all)
			}
			all = append(all, f)
		}
		if !more {
			break
		}
	}
	all = all[max(firstUser, 0):]
	for len(all) > 1 && strings.HasPrefix(all[len(all)-1].Function, "runtime.") {
		all = all[:len(all)-1]
	}
	var b strings.Builder
	for i, f := range all {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s (%s:%d)", f.Function, f.File, f.Line)
	}
	return b.String()
}

func isInner(function string) bool {
	for _, p := range inner {
		if strings.HasPrefix(function, p) {
			return true
		}
	}
	return false
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
