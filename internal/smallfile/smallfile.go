// Package smallfile reads files of secrets and certificates, such as CredentialsFile and TLSFiles.
//
//	path ── a regular file? ── at most Limit bytes? ──▶ its content
//	            └ no: an error that names it ┘
//
// A configuration may name any path: os.ReadFile would wait for a writer of a named pipe, and would
// fill memory from a device. The package watches nothing, and looks at no owner and no mode.
package smallfile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Limit is the most bytes that a file may have. A bundle of all public authorities has a quarter.
const Limit = 1 << 20

// Read returns the content of a regular file, or of one that a symbolic link leads to. Its errors are
// *fs.PathErrors, which name the file, and never show what is in it. It does not wait for a writer.
func Read(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil { // otherwise OpenFile says why
		if err := regular(path, info); err != nil { // some devices do not like to be opened
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the file that the configuration names
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err = regular(path, info); err != nil { // it was replaced since
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, Limit+1))
	if err != nil {
		return nil, err
	}
	if len(content) > Limit {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("it has more than %d bytes, the limit; is it the right file?", Limit)}
	}
	return content, nil
}

func regular(path string, info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		return nil
	}
	kind := "a device or a socket"
	switch {
	case info.IsDir():
		kind = "a directory"
	case info.Mode()&fs.ModeNamedPipe != 0:
		kind = "a named pipe"
	}
	return &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("it is %s; it must be a regular file", kind)}
}
