// Package callsite shortens stacks for use in a sentence.
package callsite

import (
	"path/filepath"
	"strings"
)

// Of shortens a stack, one "function (file:line)" per line, to its innermost frame:
// "api.(*Handler).List (list.go:88)". It returns "unknown" for an empty stack.
func Of(stack string) string {
	line, _, _ := strings.Cut(stack, "\n")
	function, at, ok := strings.Cut(line, " (")
	if !ok {
		return "unknown"
	}
	function = function[strings.LastIndexByte(function, '/')+1:]
	return function + " (" + filepath.Base(strings.TrimSuffix(at, ")")) + ")"
}
