//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package socket_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/poolkeeper/poolkeeper/internal/socket"
	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

func TestPeekSeesWhatTheOtherSideHasDone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ours.Close() }()
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = theirs.Close() }()
	tcp, ok := ours.(*net.TCPConn)
	if !ok {
		t.Fatalf("%T", ours)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	peeker := socket.NewPeeker(raw)
	become := func(want socket.State) {
		t.Helper()
		testkit.Eventually(t, fmt.Sprintf("state %d", want), func() bool {
			got, next := socket.Peek(tcp)
			again, nextAgain := peeker.Peek()
			return got == want && again == want && (got != socket.Unread || next == 'E' && nextAgain == 'E')
		})
	}
	become(socket.Silent)
	if n := testing.AllocsPerRun(100, func() { peeker.Peek() }); n != 0 {
		t.Errorf("a look allocates %v times", n)
	}
	if _, err := theirs.Write([]byte("E")); err != nil {
		t.Fatal(err)
	}
	become(socket.Unread)
	if _, err := ours.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	become(socket.Silent)
	_ = theirs.Close()
	become(socket.Closed)
	_ = ours.Close()
	become(socket.Closed)
	if got, _ := socket.Peek(nil); got != socket.Unknown {
		t.Errorf("nothing at all: %d", got)
	}
	var none *socket.Peeker
	if got, _ := none.Peek(); got != socket.Unknown {
		t.Errorf("a Peeker for nothing at all: %d", got)
	}
}
