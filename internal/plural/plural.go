// Package plural counts nouns in errors and log lines.
package plural

import "strconv"

// Of returns n and the noun, with an s unless n is 1: "1 connection", "2 connections".
func Of(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
