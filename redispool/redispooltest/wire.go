package redispooltest

import (
	"context"
	"net"
	"runtime/pprof"
	"sync"
)

// wire forwards connections to a server, unless it is told not to.
type wire struct {
	server string // address
	addr   string // our own, which stays the same

	mu       sync.Mutex // guards the following
	listener net.Listener
	open     map[net.Conn]struct{} // both ends of every connection
	flowing  chan struct{}         // closed while bytes may pass
	done     bool
	running  sync.WaitGroup // goroutines; all end when their connection or the listener is closed
}

func newWire(server string) (*wire, error) {
	w := &wire{server: server, addr: "127.0.0.1:0", open: map[net.Conn]struct{}{}, flowing: make(chan struct{})}
	close(w.flowing)
	return w, w.listen()
}

// listen begins to accept connections, if it does not already.
func (w *wire) listen() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listener != nil || w.done {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", w.addr) //nolint:forbidigo // it takes no time
	if err != nil {
		return err
	}
	w.listener, w.addr = l, l.Addr().String()
	w.running.Go(func() { w.accept(l) })
	return nil
}

// unlabel takes away the labels of the calling goroutine, which is the kit's. lifecycletest tells
// goroutines that were left behind by their labels; the kit's end after the registry.
func unlabel() { pprof.SetGoroutineLabels(context.Background()) } //nolint:forbidigo // no labels

func (w *wire) accept(l net.Listener) {
	unlabel()
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := new(net.Dialer).DialContext(context.Background(), "tcp", w.server) //nolint:forbidigo // on loopback
		if err != nil {
			_ = client.Close()
			continue
		}
		if !w.add(l, client, server) {
			_, _ = client.Close(), server.Close()
			continue
		}
		w.running.Go(func() { w.forward(client, server) })
		w.running.Go(func() { w.forward(server, client) })
	}
}

// add notes both ends of a connection that l has accepted, or reports false if it accepts none any
// more.
func (w *wire) add(l net.Listener, client, server net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listener != l {
		return false
	}
	w.open[client], w.open[server] = struct{}{}, struct{}{}
	return true
}

// forward copies bytes while they may pass, until one end closes; then it closes both.
func (w *wire) forward(from, to net.Conn) {
	defer w.hangUp(from, to)
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		flowing := w.flowing
		w.mu.Unlock()
		<-flowing
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (w *wire) hangUp(conns ...net.Conn) {
	w.mu.Lock()
	for _, c := range conns {
		delete(w.open, c)
	}
	w.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// drop closes every connection.
func (w *wire) drop() {
	w.mu.Lock()
	all := make([]net.Conn, 0, len(w.open))
	for c := range w.open {
		all = append(all, c)
	}
	w.mu.Unlock()
	w.hangUp(all...)
}

// refuse closes the port. Connections stay.
func (w *wire) refuse() {
	w.mu.Lock()
	l := w.listener
	w.listener = nil
	w.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
}

// hang lets no byte pass.
func (w *wire) hang() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.flowing:
		if !w.done {
			w.flowing = make(chan struct{})
		}
	default:
	}
}

// heal undoes refuse and hang.
func (w *wire) heal() error {
	w.mu.Lock()
	select {
	case <-w.flowing:
	default:
		close(w.flowing)
	}
	w.mu.Unlock()
	return w.listen()
}

// close ends it for good.
func (w *wire) close() {
	w.mu.Lock()
	w.done = true
	w.mu.Unlock()
	_ = w.heal() // so that no goroutine waits for bytes to pass
	w.refuse()
	w.running.Wait()
}
