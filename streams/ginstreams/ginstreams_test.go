package ginstreams_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"github.com/poolkeeper/poolkeeper/internal/test/testkit"
	"github.com/poolkeeper/poolkeeper/streams"
	"github.com/poolkeeper/poolkeeper/streams/ginstreams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves both kinds at /ws/:room and /sse/:room, behind a middleware that knows the user.
func serve(t *testing.T) (h *streams.Hub, url string) {
	t.Helper()
	gin.SetMode(gin.TestMode)
	user := func(r *http.Request) string {
		req, _ := ginstreams.From(r)
		name, _ := req.Value("user").(string)
		return name
	}
	h, err := streams.New(streams.Config{
		Logger: testkit.Silent(), MaxPerKey: 1, Key: user,
		Authorize: func(r *http.Request) error {
			if user(r) == "" {
				return errors.New("nobody")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	router := gin.New()
	router.Use(gin.Recovery(), func(c *gin.Context) { c.Set("user", c.GetHeader("User")) })
	tell := func(ctx context.Context, s *streams.Stream, r ginstreams.Request) error {
		name, _ := r.Value("user").(string)
		text := strings.Join([]string{name, r.Param("room"), r.FullPath, r.ClientIP}, " ")
		if err := s.Send(ctx, streams.Event{Data: []byte(text)}); err != nil {
			return err
		}
		return s.Follow("t")
	}
	router.GET("/sse/:room", ginstreams.SSE(h, tell))
	router.GET("/ws/:room", ginstreams.WebSocket(h, func(ctx context.Context, c *streams.Conn, r ginstreams.Request) error {
		return tell(ctx, c.Stream, r)
	}))
	srv := httptest.NewServer(router)
	t.Cleanup(func() {
		if err := h.Abort(); err == nil {
			t.Error("nothing was open")
		}
		srv.Close()
	})
	return h, srv.URL
}

func get(t *testing.T, url, user string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User", user)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestHandlersGetWhatGinKnowsAndStream(t *testing.T) {
	h, url := serve(t)
	ws, _, err := websocket.Dial(t.Context(), url+"/ws/blue", &websocket.DialOptions{HTTPHeader: http.Header{"User": {"ann"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	sse := bufio.NewScanner(get(t, url+"/sse/red", "bob").Body)
	testkit.Eventually(t, "both follow", func() bool { return h.StreamStats().Topics["t"] == 2 })
	if err := h.Broadcast("t", streams.Event{ID: "1", Data: []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ann blue /ws/:room 127.0.0.1", "hello"} {
		if _, got, err := ws.Read(t.Context()); err != nil || string(got) != want {
			t.Errorf("the WebSocket got %q, %v, want %q", got, err, want)
		}
	}
	for _, want := range []string{"retry: 3000", "", "data: bob red /sse/:room 127.0.0.1", "", "id: 1", "data: hello"} {
		if !sse.Scan() || sse.Text() != want {
			t.Errorf("the SSE client got %q, want %q", sse.Text(), want)
		}
	}
	for user, want := range map[string]int{"ann": http.StatusTooManyRequests, "": http.StatusUnauthorized} {
		if resp := get(t, url+"/sse/red", user); resp.StatusCode != want {
			t.Errorf("user %q got %s, want %d", user, resp.Status, want)
		}
	}
	for _, holder := range h.Holders() {
		if !strings.Contains(holder.Stack, "ginstreams_test.serve (") {
			t.Errorf("a holder was registered at %s", holder.Stack)
		}
	}
}

// What a handler gets cannot lead to a gin.Context: neither its parameters nor what they hold.
func TestNoParameterOfAHandlerLeadsToAGinContext(t *testing.T) {
	forbidden := reflect.TypeFor[gin.Context]()
	for _, f := range []any{ginstreams.WebSocket, ginstreams.SSE} {
		handler := reflect.TypeOf(f).In(1)
		for p := range handler.Ins() {
			if reaches(p, forbidden, map[reflect.Type]bool{}) {
				t.Errorf("%s has a parameter %s that leads to %s", handler, p, forbidden)
			}
		}
	}
}

// reaches reports whether a value of one type can hold one of another. What is behind an interface
// cannot be known.
func reaches(from, to reflect.Type, seen map[reflect.Type]bool) bool {
	if from == to {
		return true
	}
	if seen[from] {
		return false
	}
	seen[from] = true
	switch from.Kind() { //nolint:exhaustive // the others hold no other types
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Chan:
		return reaches(from.Elem(), to, seen)
	case reflect.Map:
		return reaches(from.Key(), to, seen) || reaches(from.Elem(), to, seen)
	case reflect.Struct:
		for f := range from.Fields() {
			if reaches(f.Type, to, seen) {
				return true
			}
		}
	}
	return false
}
