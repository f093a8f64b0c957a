package redispool

import (
	"errors"

	"github.com/poolkeeper/poolkeeper/internal/onfile"
)

// readFiles reads the files and reports everything that is wrong with them. No error shows what is in them.
func readFiles(c *Config) (onfile.Contents, error) {
	return onfile.Read("redispool: ", onfile.Names{
		CA: c.TLSFiles.CA, Cert: c.TLSFiles.Cert, Key: c.TLSFiles.Key, Credentials: c.CredentialsFile,
	})
}

// fileFaults are contradictions between the files and the rest.
func (c Config) fileFaults() error {
	var errs []error
	if c.CredentialsFile != "" && c.Credentials != nil {
		errs = append(errs, errors.New("redispool: Credentials and CredentialsFile are both set; give one of them"))
	}
	if c.TLS != nil && c.TLS.RootCAs != nil && c.TLSFiles.CA != "" {
		errs = append(errs, errors.New("redispool: TLS.RootCAs and TLSFiles.CA are both set; give one of them"))
	}
	if c.TLS != nil && (len(c.TLS.Certificates) > 0 || c.TLS.GetClientCertificate != nil) && c.TLSFiles.Cert != "" {
		errs = append(errs, errors.New("redispool: TLS has a certificate of its own, and TLSFiles.Cert is set; give one of them"))
	}
	return errors.Join(errs...)
}

// hasFiles reports whether anything is read from disk.
func (c Config) hasFiles() bool { return c.CredentialsFile != "" || c.TLSFiles != (TLSFiles{}) }

// changesOnDisk says which fields' files differ.
func changesOnDisk(from, to onfile.Contents) (out []Change) {
	certificates, credentials := onfile.Differ(from, to)
	if certificates {
		out = append(out, Change{Field: "TLSFiles", From: "…", To: "…"})
	}
	if credentials {
		out = append(out, Change{Field: "CredentialsFile", From: "…", To: "…"})
	}
	return out
}
