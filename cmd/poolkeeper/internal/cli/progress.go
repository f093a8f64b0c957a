package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/term"
)

// progress shows on a terminal how long the program has waited. Elsewhere it writes nothing.
type progress struct {
	out   io.Writer // nil: no terminal
	began time.Time

	mu      sync.Mutex // guards the following, and writes to out
	timer   *time.Timer
	left    int // servers
	stopped bool
}

// progressEvery is the time between two updates, short enough to show that the program works.
const progressEvery = 250 * time.Millisecond

func startProgress(w io.Writer, getenv func(string) string, servers int) *progress {
	p := &progress{began: time.Now(), left: servers}
	if !term.IsTerminal(w) || getenv("TERM") == "dumb" {
		return p
	}
	p.out = w
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(progressEvery, p.tick) // until Stop
	return p
}

// Done notes that one server has answered or failed.
func (p *progress) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left--
}

func (p *progress) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	_, _ = fmt.Fprintf(p.out, "\rservers that have not answered yet: %d, after %s%s",
		p.left, time.Since(p.began).Round(time.Second), term.ClearLine)
	p.timer.Reset(progressEvery)
}

// Stop removes the line.
func (p *progress) Stop() {
	if p.out == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.timer.Stop()
	_, _ = fmt.Fprint(p.out, "\r"+term.ClearLine)
}
