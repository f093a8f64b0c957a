package sqlpool

import (
	"errors"

	"github.com/poolkeeper/poolkeeper/internal/onfile"
)

// hasFiles reports whether anything is read from disk.
func (c Config) hasFiles() bool { return c.CredentialsFile != "" || c.TLSFiles != (TLSFiles{}) }

// disk is what the files of a configuration hold, or why they cannot be used.
type disk struct {
	onfile.Contents

	err   error
	asked Config // the configuration, as it was given
}

func readFiles(c *Config) disk {
	held, err := onfile.Read("sqlpool: ", onfile.Names{
		CA: c.TLSFiles.CA, Cert: c.TLSFiles.Cert, Key: c.TLSFiles.Key, Credentials: c.CredentialsFile,
	})
	return disk{held, err, *c}
}

// validateFiles reports contradictions between the files and the rest.
func (c Config) validateFiles() error {
	var errs []error
	if c.CredentialsFile != "" && c.Credentials != nil {
		errs = append(errs, errors.New("sqlpool: Credentials and CredentialsFile are both set; give one of them"))
	}
	if c.TLS != nil && c.TLS.RootCAs != nil && c.TLSFiles.CA != "" {
		errs = append(errs, errors.New("sqlpool: TLS.RootCAs and TLSFiles.CA are both set; give one of them"))
	}
	if c.TLS != nil && (len(c.TLS.Certificates) > 0 || c.TLS.GetClientCertificate != nil) && c.TLSFiles.Cert != "" {
		errs = append(errs, errors.New("sqlpool: TLS has a certificate of its own, and TLSFiles.Cert is set; give one of them"))
	}
	return errors.Join(errs...)
}

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
