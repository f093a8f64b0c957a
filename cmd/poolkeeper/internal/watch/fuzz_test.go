package watch_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/term"
	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/watch"
)

// Whatever a service answers: a snapshot is drawn or refused, steers no terminal, and shows no token.
func FuzzSnapshot(f *testing.F) {
	whole, err := json.Marshal(shop())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, s := range []string{
		`{"version":1,"details":true}`, `{"version":1,"details":true,"pools":[{"name":"\u001b[2J","members":[{"name":"\u202e"}],"oldest":null}]}`,
		`{"version":1,"details":true,"checks":[{}],"components":[{}],"holders":[{"stack":"\n\n"}],"events":[{"time":"0001-01-01T00:00:00Z"}]}`,
		`{"version":99}`, `[]`, `{"version":1,"at":"9999-12-31T23:59:59Z","overall":{"since":"0001-01-01T00:00:00Z","ready":"pass"}}`, "<html>", "",
	} {
		f.Add([]byte(s))
	}
	var answer atomic.Pointer[[]byte]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*answer.Load()) }))
	f.Cleanup(srv.Close)
	w, err := watch.New(srv.URL, watch.Options{Interval: time.Second, Timeout: 5 * time.Second, Token: "sesame-token"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(w.Close)
	f.Fuzz(func(t *testing.T, document []byte) {
		answer.Store(&document)
		var out bytes.Buffer
		_, err := w.Snapshot(t.Context(), &out, term.Styles{})
		if (err == nil) != (out.Len() > 0) {
			t.Fatalf("%v, and printed %q", err, out.String())
		}
		if err != nil {
			return
		}
		text := out.String()
		if i := strings.IndexFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' || unicode.Is(unicode.Bidi_Control, r) }); i >= 0 {
			t.Fatalf("%q is on the screen", text[i:])
		}
		if strings.Contains(text, "sesame-token") && !bytes.Contains(document, []byte("sesame-token")) {
			t.Fatalf("the token is shown: %s", text)
		}
	})
}
