//go:build !purego

package callers_test

const pure = false
