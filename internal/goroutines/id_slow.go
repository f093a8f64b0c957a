//go:build !gc || purego || !(amd64 || arm64)

package goroutines

import (
	"bytes"
	"runtime"
	"strconv"
)

// ID tells the calling goroutine from all others that live at the same time. It is read from the
// head of a stack trace, as net/http2 does for its debugging, and costs some microseconds for every
// ten frames of the stack.
func ID() uint64 {
	var buf [64]byte
	b := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	digits, _, _ := bytes.Cut(b, []byte(" "))
	id, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return id
}
