module github.com/poolkeeper/poolkeeper/streams

go 1.26.0

replace github.com/poolkeeper/poolkeeper => ../

require (
	github.com/coder/websocket v1.8.15
	github.com/poolkeeper/poolkeeper v0.0.0
	go.uber.org/goleak v1.3.0
	pgregory.net/rapid v1.3.0
)

require github.com/stretchr/testify v1.11.1 // indirect
