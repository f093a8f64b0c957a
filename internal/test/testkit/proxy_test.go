package testkit_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
)

// speaker answers each line with its name, and hangs up on "bye".
func speaker(t *testing.T, name string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				for lines := bufio.NewScanner(c); lines.Scan() && lines.Text() != "bye"; {
					_, _ = io.WriteString(c, name+"\n")
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

// phone is a client's connection.
type phone struct {
	*testing.T
	net.Conn

	lines *bufio.Reader
}

func call(t *testing.T, p *testkit.Proxy) phone {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return phone{t, c, bufio.NewReader(c)}
}

func (p phone) say(what string) {
	p.Helper()
	if _, err := io.WriteString(p.Conn, what+"\n"); err != nil {
		p.Error(err)
	}
}

func (p phone) hears(want string) {
	p.Helper()
	p.say("hello")
	if got, err := p.lines.ReadString('\n'); err != nil || got != want+"\n" {
		p.Errorf("heard %q %v, want %q", got, err, want)
	}
}

// hearsNothing wants neither an answer nor the end of the connection.
func (p phone) hearsNothing() {
	p.Helper()
	if err := p.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		p.Fatal(err)
	}
	if got, err := p.lines.ReadByte(); err == nil || !os.IsTimeout(err) {
		p.Errorf("heard %q %v, want silence", got, err)
	}
}

func TestProxyLeadsToWhatItPointsAt(t *testing.T) {
	proxy := testkit.NewProxy(t, speaker(t, "one"))
	first := call(t, proxy)
	first.hears("one")
	proxy.Point(speaker(t, "two"))
	call(t, proxy).hears("two")
	first.hears("one") // connections that there are stay where they are
	first.say("bye")
	if _, err := first.lines.ReadByte(); err != io.EOF {
		t.Errorf("the server has hung up: %v, want EOF", err)
	}
}

func TestProxyBlackHoleTellsNobody(t *testing.T) {
	proxy := testkit.NewProxy(t, speaker(t, "one"))
	lost := call(t, proxy)
	lost.hears("one")
	proxy.BlackHole()
	lost.say("hello")
	lost.hearsNothing()
	call(t, proxy).hears("one") // those made later work
}

func TestProxyIsMuteToNewConnectionsOnly(t *testing.T) {
	proxy := testkit.NewProxy(t, speaker(t, "one"))
	first := call(t, proxy)
	first.hears("one")
	proxy.Mute(true)
	second := call(t, proxy)
	second.say("hello")
	second.hearsNothing()
	first.hears("one")
	proxy.Mute(false)
	call(t, proxy).hears("one")
	proxy.MuteAfter(1)
	call(t, proxy).hears("one")
	third := call(t, proxy)
	third.say("hello")
	third.hearsNothing()
}

func TestProxyHangsUpWhenNobodyIsThere(t *testing.T) {
	proxy := testkit.NewProxy(t, testkit.FreeAddr(t))
	if _, err := call(t, proxy).lines.ReadByte(); err == nil || os.IsTimeout(err) {
		t.Errorf("%v, want the end of the connection", err)
	}
}

func TestProxyResetIsHeardOfAsOne(t *testing.T) {
	proxy := testkit.NewProxy(t, speaker(t, "one"))
	first := call(t, proxy)
	first.hears("one")
	proxy.Reset()
	if _, err := first.lines.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
	call(t, proxy).hears("one")
}

func TestProxyCutsInTheMiddleOfAnAnswer(t *testing.T) {
	proxy := testkit.NewProxy(t, speaker(t, "one"))
	first := call(t, proxy)
	first.hears("one")
	proxy.CutAfter(2)
	first.say("hello")
	if got, err := io.ReadAll(first.lines); err != nil || string(got) != "on" {
		t.Errorf("heard %q %v, want half an answer, and the end", got, err)
	}
	call(t, proxy).hears("one")
}

func TestProxyStallsNewConnectionsOnly(t *testing.T) {
	proxy := testkit.NewProxy(t, speaker(t, "one"))
	first := call(t, proxy)
	first.hears("one")
	proxy.StallAfter(3)
	second := call(t, proxy)
	second.say("hello")
	if got, err := io.ReadAll(io.LimitReader(second.lines, 3)); err != nil || string(got) != "one" {
		t.Errorf("heard %q %v, want three bytes", got, err)
	}
	second.hearsNothing()
	first.hears("one")
	proxy.StallAfter(0)
	call(t, proxy).hears("one")
}

func TestProxyTricklesByteByByte(t *testing.T) {
	const answer = "a name of some length"
	proxy := testkit.NewProxy(t, speaker(t, answer))
	parts := func() (n int) {
		first := call(t, proxy)
		for range 50 {
			first.say("hello")
			for heard := 0; heard < len(answer)+1; n++ {
				got, err := first.Read(make([]byte, 100))
				if err != nil {
					t.Fatal(err)
				}
				heard += got
			}
		}
		return n
	}
	if n := parts(); n != 50 {
		t.Errorf("50 answers came in %d parts", n)
	}
	proxy.Trickle(true)
	if n := parts(); n <= 50 { // the kernel may join bytes that the reader is late for
		t.Errorf("50 answers, byte by byte, came in %d parts", n)
	}
}
