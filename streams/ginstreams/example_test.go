package ginstreams_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/gin-gonic/gin"

	"github.com/poolkeeper/poolkeeper/streams"
	"github.com/poolkeeper/poolkeeper/streams/ginstreams"
)

func ExampleSSE() {
	gin.SetMode(gin.TestMode)
	live, err := streams.New(streams.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = live.Start(context.Background())
	router := gin.New()
	router.GET("/rooms/:room", ginstreams.SSE(live, func(ctx context.Context, s *streams.Stream, r ginstreams.Request) error {
		return s.Send(ctx, streams.Event{Data: []byte("welcome to " + r.Param("room"))})
	}))
	srv := httptest.NewServer(router)
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/rooms/blue")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		fmt.Println(lines.Text())
	}
	fmt.Println(live.Stop(context.Background()))
	// Output:
	// retry: 3000
	//
	// data: welcome to blue
	//
	// <nil>
}
