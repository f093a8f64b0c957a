// Package goroutines tells the calling goroutine from others.
package goroutines
