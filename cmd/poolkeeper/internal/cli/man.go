package cli

import (
	"time"

	"github.com/spf13/cobra/doc"
)

// WriteMan writes the man pages of all commands into a directory that exists.
func WriteMan(dir string) error {
	root := Root(Streams{})
	root.InitDefaultCompletionCmd()
	day := time.Date(2026, time.November, 30, 0, 0, 0, 0, time.UTC) // fixed: pages differ only if the commands do
	return doc.GenManTree(root, &doc.GenManHeader{
		Title: "POOLKEEPER", Section: "1", Date: &day, Source: "poolkeeper", Manual: "poolkeeper",
	}, dir)
}
