package httpclient

import (
	"fmt"
	"time"

	"github.com/poolkeeper/poolkeeper"
)

// Class chooses the defaults of a client's limits by what its requests are like. A field of [Config]
// that is set has its own value.
//
//	                  ClassStandard  ClassShort  ClassStreaming  http.DefaultClient
//	AcquireTimeout    5 s            500 ms      5 s             none
//	DialTimeout       5 s            500 ms      5 s             30 s
//	TLSTimeout        5 s            500 ms      5 s             10 s
//	HeaderTimeout     15 s           1 s         15 s            none
//	BodyTimeout       15 s           1 s         Off             none
//	RequestTimeout    30 s           2 s         Off             none
//	LeakThreshold     5 min          1 min       Off             none
type Class int

const (
	// ClassStandard is for ordinary requests, answered within seconds. It is the default.
	ClassStandard Class = iota
	// ClassShort is for requests on the path of an interactive one, worth nothing after 2 s.
	ClassShort
	// ClassStreaming is for responses that continue until they are ended: server-sent events,
	// downloads, long polls.
	ClassStreaming
)

// String returns the name of the constant.
func (c Class) String() string {
	switch c {
	case ClassStandard:
		return "ClassStandard"
	case ClassShort:
		return "ClassShort"
	case ClassStreaming:
		return "ClassStreaming"
	default:
		return fmt.Sprintf("Class(%d)", int(c))
	}
}

// defaults are those of a class.
type defaults struct {
	acquire, dial, tls, header, body, request, leak time.Duration
}

func (c Class) defaults() defaults {
	const s = time.Second
	switch c {
	case ClassShort:
		return defaults{acquire: s / 2, dial: s / 2, tls: s / 2, header: s, body: s, request: 2 * s, leak: time.Minute}
	case ClassStreaming:
		return defaults{
			acquire: 5 * s, dial: 5 * s, tls: 5 * s, header: 15 * s,
			body: poolkeeper.Off, request: poolkeeper.Off, leak: poolkeeper.Off,
		}
	case ClassStandard:
	}
	return defaults{acquire: 5 * s, dial: 5 * s, tls: 5 * s, header: 15 * s, body: 15 * s, request: 30 * s, leak: 5 * time.Minute}
}
