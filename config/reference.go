package config

import (
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// maxSecret bounds a file that a value is read from.
const maxSecret = 64 << 10

// resolve returns the text of a value: as written, or as read by reference.
func (d *decoder) resolve(n *node, k *key) (text string, ok bool) {
	switch {
	case n.shape == null:
		return "", false
	case n.shape == scalar:
		if (k.form == formText || k.form == formTexts) && holdsPassword(n.text, strings.HasSuffix(k.field, "URL")) {
			d.add(n.at, "%s holds a password; the file must not: write {env: NAME} or {file: PATH} instead, or use credentials_file", n.path)
			return "", false
		}
		return n.text, true
	case !n.isReference():
		d.add(n.at, "%s is a %s; it must be %s", n.path, n.shape, k.allowed())
		return "", false
	case k.form != formText && k.form != formTexts:
		d.add(n.at, "%s is a reference; only a text can be one: it must be %s", n.path, k.allowed())
		return "", false
	case len(n.fields) > 1:
		d.add(n.at, "%s refers to env and file; give one of them", n.path)
		return "", false
	}
	text, ok = d.refer(n, n.fields[0])
	if k.form == formTexts { // which faults show one by one
		for part := range strings.SplitSeq(text, ",") {
			d.keepSecret(strings.TrimSpace(part))
		}
	}
	return text, ok
}

func (s shape) String() string {
	return [...]string{"null", "scalar", "mapping", "list"}[s]
}

// refer reads the value that a reference names.
func (d *decoder) refer(n *node, to field) (string, bool) {
	if to.value.shape != scalar || to.value.text == "" {
		d.add(to.value.at, "%s must be the name of %s", to.value.path, map[string]string{
			"env": "an environment variable", "file": "a file",
		}[to.name])
		return "", false
	}
	var text string
	switch {
	case to.name == "env" && !variable.MatchString(to.value.text), to.name == "file" && holdsPassword(to.value.text, true):
		d.add(to.value.at, "%s looks like a value; it must be a name that refers to it", to.value.path)
		return "", false
	case d.load.offline:
		return "", false
	case to.name == "env":
		if text = os.Getenv(to.value.text); text == "" {
			d.add(n.at, "%s refers to the environment variable %s, which is not set", n.path, to.value.text)
			return "", false
		}
	default:
		content, err := readBounded(to.value.text, maxSecret)
		d.refs, d.held = append(d.refs, to.value.text), append(d.held, content)
		if err != nil {
			d.add(n.at, "%s refers to a file that cannot be read: %v", n.path, err)
			return "", false
		}
		if text = strings.TrimSpace(string(content)); text == "" {
			d.add(n.at, "%s refers to %s, which is empty", n.path, to.value.text)
			return "", false
		}
	}
	d.keepSecret(text)
	return text, true
}

// keepSecret keeps a value out of every text from now on, and the password of a URL by itself.
func (d *decoder) keepSecret(text string) {
	secrets := []string{text}
	if u, err := url.Parse(text); err == nil && u.User != nil {
		p, _ := u.User.Password()
		secrets = append(secrets, p)
	}
	const short = 4 // what is shorter would take words apart
	for _, s := range secrets {
		if len(s) < short {
			continue
		}
		d.secrets = append(d.secrets, s)
		if quoted := strconv.Quote(s); quoted != `"`+s+`"` { // faults show values by %q
			d.secrets = append(d.secrets, quoted[1:len(quoted)-1])
		}
	}
}

// errTooLong is the error of a file that is longer than a value can be.
var errTooLong = errors.New("it is too long")

// readBounded reads a file of at most limit bytes. With an error it returns nil.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the file that the configuration names
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errTooLong}
	}
	return content, nil
}

// variable is what the name of an environment variable looks like.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// assignment is a password in a keyword DSN, or in the parameters of a URL.
var assignment = regexp.MustCompile(`(?i)(^|[\s?&;])[a-z_-]*(password|passwd|pwd|secret|token)\s*=\s*[^\s&;]`)

// holdsPassword reports whether a text has a password in it, as far as texts of URLs and DSNs show.
func holdsPassword(text string, isURL bool) bool {
	_, rest, schemed := strings.Cut(text, "://")
	switch {
	case isURL && assignment.MatchString(text):
		return true
	case !schemed && !isURL:
		return false
	case !schemed:
		rest = text
	}
	rest, _, _ = strings.Cut(rest, "?")
	at := strings.LastIndex(rest, "@")
	if at < 0 {
		return false
	}
	_, password, ok := strings.Cut(rest[:at], ":")
	return ok && password != ""
}
