package statuspage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// writeTimeout bounds each write to a viewer: one that does not read is dropped.
const writeTimeout = 10 * time.Second

// retryAfter is how long a browser waits before it connects again.
const retryAfter = 3 * time.Second

// viewers holds the open pages that get updates. A slow viewer misses updates, and then gets the whole
// page. It delays neither the sampling nor other viewers.
type viewers struct {
	most int

	mu   sync.Mutex // guards the following, and the mail of each viewer
	all  map[*viewer]struct{}
	last *moment       // as published; nil before the first
	over chan struct{} // closed by shut
}

// viewer is one open page.
type viewer struct {
	wake   chan struct{} // 1 buffered: there is mail
	mail   []byte        // to be written; nil if there is none
	synced bool          // it has all parts as last published, or will have by its mail
}

func newViewers(most int) *viewers {
	v := &viewers{most: most, all: make(map[*viewer]struct{}), over: make(chan struct{})}
	close(v.over)
	return v
}

// open lets viewers in.
func (v *viewers) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.over = make(chan struct{})
}

// shut ends all viewers and lets no more in.
func (v *viewers) shut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.over:
	default:
		close(v.over)
	}
	v.last = nil
}

func (v *viewers) any() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.all) > 0
}

// join adds a viewer; leave removes it. It returns nil and the reason if there is no place.
func (v *viewers) join() (w *viewer, over <-chan struct{}, why string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.over:
		return nil, nil, "the page is not updated now: it is not started, or was stopped"
	default:
	}
	if len(v.all) >= v.most {
		return nil, nil, fmt.Sprintf("%d pages are open, MaxViewers is %[1]d", v.most)
	}
	w = &viewer{wake: make(chan struct{}, 1)}
	v.all[w] = struct{}{}
	return w, v.over, ""
}

func (v *viewers) leave(w *viewer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.all, w)
}

// publish gives every viewer the parts that have changed since the last moment.
func (v *viewers) publish(m *moment) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if m == v.last {
		return
	}
	changed := m.changes(v.last)
	v.last = m
	for w := range v.all {
		if w.mail == nil && w.synced {
			w.mail = changed
		} else {
			w.mail = m.all()
		}
		w.synced = true
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// take returns the mail of w, and empties it.
func (v *viewers) take(w *viewer) []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	mail := w.mail
	w.mail = nil
	return mail
}

// serveLive updates one page until the reader leaves, the server drains, or the page stops.
func (p *Page) serveLive(w http.ResponseWriter, r *http.Request) {
	v, over, why := p.viewers.join()
	if v == nil {
		w.Header().Set("Retry-After", "10")
		http.Error(w, "statuspage: no live updates: "+why+"; reload the page by hand", http.StatusServiceUnavailable)
		return
	}
	defer p.viewers.leave(v)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold the stream back
	if r.Method == http.MethodHead {
		return
	}
	out := http.NewResponseController(w)
	write := func(b []byte) bool {
		_ = out.SetWriteDeadline(time.Now().Add(writeTimeout)) // a writer without deadlines has none
		_, err := w.Write(b)
		return err == nil && out.Flush() == nil
	}
	m := p.shown()
	hello := fmt.Appendf(nil, "retry: %d\nevent: hello\ndata: %s\n\n", retryAfter.Milliseconds(), m.shape)
	if !write(append(hello, m.all()...)) {
		return
	}
	for {
		select {
		case <-v.wake:
			if !allows(p.cfg.Allow, r) { // no longer
				return
			}
			if mail := p.viewers.take(v); mail != nil && !write(mail) {
				return
			}
		case <-over:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// changes returns the parts of m that differ from before. It returns all if before is nil or of
// another shape.
func (m *moment) changes(before *moment) []byte {
	if before == nil || before.shape != m.shape {
		return append(fmt.Appendf(nil, "event: hello\ndata: %s\n\n", m.shape), m.all()...)
	}
	var b bytes.Buffer
	for i, part := range m.parts {
		if !bytes.Equal(part.html, before.parts[i].html) {
			part.event(&b)
		}
	}
	if b.Len() == 0 {
		b.WriteString(": nothing has changed\n\n") // so that a broken connection is noticed
	}
	return b.Bytes()
}

// events returns all parts of m as events.
func (m *moment) events() []byte {
	var b bytes.Buffer
	for i := range m.parts {
		m.parts[i].event(&b)
	}
	return b.Bytes()
}

// event writes a part as an event.
func (p *part) event(b *bytes.Buffer) {
	b.WriteString("event: part\ndata: ")
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(struct { // of strings; it ends with a line feed
		ID   string `json:"id"`
		HTML string `json:"html"`
	}{p.id, string(p.html)})
	b.WriteByte('\n')
}
