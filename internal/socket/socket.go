// Package socket examines connections without reading from them. It also bounds how long a peer may
// acknowledge nothing.
package socket

// State is what can be seen of a socket.
type State uint8

// States.
const (
	Unknown State = iota // it cannot be told, on this system or for this connection
	Silent               // open, and there is nothing to read
	Unread               // the connection has received bytes that are still unread
	Closed               // the other side has closed it, and all it sent was read; or it is broken
)
