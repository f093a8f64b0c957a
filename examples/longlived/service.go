package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/lifecycle"
	"github.com/poolkeeper/poolkeeper/streams"
	"github.com/poolkeeper/poolkeeper/streams/ginstreams"
)

// The settings of the service. Those that are times are shorter than the defaults, so that the trial
// is soon over.
const (
	ping        = 2 * time.Second
	pongWait    = 12 * time.Second
	drainSpread = 2 * time.Second
	perUser     = 5
)

// serve runs the service until SIGTERM. It writes its address to out.
func serve(ctx context.Context, out io.Writer) error {
	live, err := streams.New(streams.Config{
		Ping: ping, PongWait: pongWait, DrainSpread: drainSpread,
		MaxPerKey: perUser, Key: user, Authorize: known,
	})
	if err != nil {
		return err
	}
	gin.SetMode(gin.ReleaseMode)
	server := lifecycle.HTTPServer(&http.Server{Addr: "127.0.0.1:0", Handler: routes(live), ReadHeaderTimeout: 5 * time.Second})
	reg := lifecycle.New(lifecycle.Config{ShutdownTimeout: 15 * time.Second})
	reg.Add("api", server)
	reg.Add("live", live, lifecycle.WithDependencies("api")) // it drains before the server
	reg.Go("address", func(context.Context) error {
		_, err := fmt.Fprintf(out, "http://%s\n", server.Addr())
		return err
	}, lifecycle.WithDependencies("live"))
	return reg.Run(ctx)
}

// user is whose stream a request opens. A middleware of ours has put it into the gin.Context.
func user(r *http.Request) string {
	req, _ := ginstreams.From(r)
	name, _ := req.Value("user").(string)
	return name
}

// known is where a token would be checked.
func known(r *http.Request) error {
	if user(r) == "" {
		return errors.New("no user")
	}
	return nil
}

func routes(live *streams.Hub) http.Handler {
	router := gin.New()
	router.Use(gin.Recovery(), func(c *gin.Context) { c.Set("user", c.GetHeader("User")) })
	router.GET("/chat/:room", ginstreams.WebSocket(live, func(ctx context.Context, c *streams.Conn, r ginstreams.Request) error {
		return chat(ctx, live, c, "room:"+r.Param("room"))
	}))
	router.GET("/events/:topic", ginstreams.SSE(live, func(_ context.Context, s *streams.Stream, r ginstreams.Request) error {
		return s.Follow(r.Param("topic"))
	}))
	router.POST("/events/:topic", func(c *gin.Context) {
		data, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, 1<<20))
		if err == nil {
			err = live.Broadcast(c.Param("topic"), streams.Event{Data: data})
		}
		if err != nil {
			c.String(http.StatusServiceUnavailable, "cannot broadcast")
			return
		}
		c.Status(http.StatusAccepted)
	})
	router.GET("/numbers", func(c *gin.Context) { c.JSON(http.StatusOK, measure(live)) })
	return router
}

// chat passes on what each peer says to all others of its room.
func chat(ctx context.Context, live *streams.Hub, c *streams.Conn, room string) error {
	if err := c.Subscribe(room); err != nil {
		return err
	}
	for {
		_, text, err := c.Read(ctx)
		if err != nil {
			return err
		}
		if err := live.Broadcast(room, streams.Event{Data: text}); err != nil {
			return err
		}
	}
}

// numbers are what the trial asks the service for.
type numbers struct {
	Goroutines int
	Memory     uint64 // bytes of heap and stacks in use, after a collection
	Streams    poolkeeper.StreamStats
}

func measure(live *streams.Hub) numbers {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return numbers{Goroutines: runtime.NumGoroutine(), Memory: m.HeapAlloc + m.StackInuse, Streams: live.StreamStats()}
}
