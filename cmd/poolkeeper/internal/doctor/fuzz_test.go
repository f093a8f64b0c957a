package doctor_test

import (
	"bytes"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/doctor"
	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/term"
)

// A secret where a password belongs is in no fault of a target and not in its name, whatever else the
// text is.
func FuzzParse(f *testing.F) {
	f.Add("redis", "", "h:6379/0")
	f.Add("postgres", "a/", "h:x/db?sslmode=no")
	f.Add("mysql", "%zz", "tcp(h)/d")
	f.Add("https", "?#", "h/path?token=x")
	f.Add("grpc", ":", "[::1]:1")
	f.Add("amqp", "@", "")
	f.Fuzz(func(t *testing.T, scheme, before, tail string) {
		const secret = "hunter2secret"
		for _, text := range []string{
			scheme + "://user:" + before + secret + "@" + tail, scheme + "://" + tail + "?password=" + before + secret, secret + scheme + before,
		} {
			target, err := doctor.Parse("URL", text)
			if err != nil {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q: %v", text, err)
				}
				continue
			}
			if shown := target.Name; strings.Contains(shown, secret) && !strings.Contains(before+tail, "/") && strings.Count(text, "@") < 2 && !strings.ContainsAny(before, "?#") {
				t.Errorf("%q is called %q", text, shown)
			}
		}
	})
}

// Whatever an HTTP server answers, the doctor ends, reports in JSON and in lines that steer no
// terminal, and does not repeat the password.
func FuzzAnswerOfAnHTTPServer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nServer: x\r\nKeep-Alive: timeout=5, max=100\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.0 302 Found\r\nLocation: https://u:p@elsewhere:1/\x1b[2J\r\nVia: \u202e1.1 proxy\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n",
		"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", "\x00\x00\x12\x04\x00", "+OK\r\n", "", "HTTP/1.1 999 \x07\r\n\r\n",
		"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=-1,timeout=9999999999999999999\r\nLocation: %zz\r\nContent-Type: \xff\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	answers := make(chan []byte, 1)
	var current []byte
	done := make(chan struct{})
	go func() { // ends when the listener is closed, and is waited for
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case current = <-answers:
			default:
			}
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			b := make([]byte, 4096)
			if n, _ := c.Read(b); n > 0 && bytes.HasPrefix(b, []byte("GET")) {
				_, _ = c.Write(current)
			}
			_ = c.Close()
		}
	}()
	f.Cleanup(func() { _ = l.Close(); <-done })
	f.Fuzz(func(t *testing.T, answer []byte) {
		const secret = "hunter2secret"
		if len(answer) > 1<<12 {
			return
		}
		target, err := doctor.Parse("URL", "http://user:"+secret+"@"+l.Addr().String()+"/x")
		if err != nil {
			t.Fatal(err)
		}
		answers <- answer
		report := doctor.Examine(t.Context(), []doctor.Target{target}, doctor.Options{Instances: 1, Timeout: 4 * time.Second}, nil)
		select {
		case <-answers: // it was not asked
		default:
		}
		var text bytes.Buffer
		if err = report.WriteText(&text, term.Styles{}); err != nil {
			t.Fatal(err)
		}
		all, err := json.Marshal(report)
		if err != nil || !json.Valid(all) {
			t.Fatalf("%s: %v", all, err)
		}
		if i := strings.IndexFunc(text.String(), func(r rune) bool { return unicode.IsControl(r) && r != '\n' || unicode.Is(unicode.Bidi_Control, r) }); i >= 0 {
			t.Fatalf("%q of %q", text.String()[i:], answer)
		}
		if strings.Contains(text.String(), secret) && !bytes.Contains(answer, []byte(secret)) {
			t.Fatalf("the password is shown: %s", text.String())
		}
	})
}
