package redispool

import "github.com/poolkeeper/poolkeeper/internal/onfile"

// files are what is read from disk.
func (c Config) files() onfile.Names {
	return onfile.Names{TLSFiles: c.TLSFiles, Credentials: c.CredentialsFile}
}

func (c Config) readFiles() (onfile.Contents, error) { return onfile.Read("redispool: ", c.files()) }

func (c Config) fileFaults() error {
	return c.files().Clash("redispool: ", c.TLS, c.Credentials != nil)
}
