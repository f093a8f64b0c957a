package streams_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/streams"
)

// everyWay prints a value with every verb, and as slog and encoding/json do.
func everyWay(v any) string {
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		_, _ = fmt.Fprintf(&b, verb+"\n", v)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(h).Info("printed", slog.Any("value", v))
	}
	text, err := json.Marshal(v)
	_, _ = fmt.Fprintf(&b, "%s %v", text, err)
	return b.String()
}

func TestHubAndClientPrintNoSecret(t *testing.T) { // INV-12
	const secret = "s3cret"
	hub := started(t, streams.Config{Name: "live"})
	url := serve(t, hub.WebSocket(followWS("news")))
	client, err := streams.NewClient("ws"+strings.TrimPrefix(url, "http")+"/?token="+secret, streams.ClientConfig{
		Name: "feed", Logger: testkit.Silent(),
		Receive: func(context.Context, streams.Event) error { return nil },
		Header: func(context.Context) (http.Header, error) {
			return http.Header{"Authorization": {"Bearer " + secret}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v", client); got != `streams.Client{"feed", open: false}` {
		t.Errorf("a client that is not started: %s", got)
	}
	if err := client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Stop(context.WithoutCancel(t.Context())) })
	testkit.Eventually(t, "the client can write", func() bool { return client.Write(t.Context(), websocket.MessageText, nil) == nil })
	subscribed(t, hub, "news", 1)
	for want, v := range map[string]any{`streams.Hub{"live", open: 1}`: hub, `streams.Client{"feed", open: true}`: client} {
		if got := fmt.Sprintf("%#v", v); got != want {
			t.Errorf("printed as %s, want %s", got, want)
		}
		for _, form := range []any{v, []any{v}, map[string]any{"v": v}, struct{ V any }{v}} {
			if text := everyWay(form); strings.Contains(text, secret) {
				t.Errorf("%T, of %T, shows the secret: %s", form, v, text)
			}
		}
	}
}
