package sqlpool

import "github.com/poolkeeper/poolkeeper/internal/onfile"

// files are what is read from disk.
func (c config) files() onfile.Names {
	return onfile.Names{TLSFiles: c.TLSFiles, Credentials: c.CredentialsFile}
}

func (c config) readFiles() secretFiles {
	held, err := onfile.Read("sqlpool: ", c.files())
	return secretFiles{held, err, c}
}

func (c config) fileFaults() error {
	return c.files().Clash("sqlpool: ", c.TLS, c.Credentials != nil)
}

// secretFiles is what the files of a configuration hold, or why they cannot be used.
type secretFiles struct {
	onfile.Contents

	err   error
	asked config // the configuration, as it was given
}
