//go:build !gc || purego || !(amd64 || arm64)

package callers

const trusted = false

func walk([]uintptr) int { return 0 }
