package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/http/httpproxy"

	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/doctor"
	"github.com/poolkeeper/poolkeeper/cmd/poolkeeper/internal/term"
)

const doctorLong = `doctor connects to all URLs at the same time, as a pool of the library would. For each it prints the
server's version, latency, limits and certificates, and the settings to change: fields of
redispool.Config, sqlpool.PostgresConfig, sqlpool.MySQLConfig and httpclient.Config, or of the server.

URLs begin with redis://, rediss://, unix://, redis+sentinel://, redis+cluster://, postgres://,
mysql://, http://, https://, grpc:// or grpcs:// (with TLS). An HTTP server is asked for the URL
twice, which should be that of its check; redirects are not followed. HTTP_PROXY, HTTPS_PROXY and
NO_PROXY count, as for a client. A gRPC server is asked by the health protocol for the service that
the path names: grpc://host:port/package.Service. Every user of the machine can read a command line. Put a URL that holds a password into an
environment variable, and name the variable with --env.

The files of --tls-ca, --tls-cert and --tls-key turn TLS on, for all URLs given.`

func doctorCommand(s Streams) *cobra.Command {
	o := doctor.Options{Instances: 1}
	var fromEnv []string
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor [URL...]",
		Short: "Examines servers, and says which settings to change",
		Long:  doctorLong,
		Example: `  poolkeeper doctor redis://localhost:6379 --instances 12 --max-open 20
  poolkeeper doctor --env DATABASE_URL --env REDIS_URL --json
  poolkeeper doctor https://billing.internal/healthz grpcs://users.internal:9090`,
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := targetsOf(args, fromEnv, s.Getenv)
			if err == nil {
				err = o.Validate(targets)
			}
			if err != nil {
				return err
			}
			o.Proxy = proxies(s.Getenv)
			p := startProgress(s.Err, s.Getenv, len(targets))
			r := doctor.Examine(cmd.Context(), targets, o, p.Done)
			p.Stop()
			return writeReport(r, asJSON, s)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := c.Flags()
	f.StringArrayVar(&fromEnv, "env", nil, "`name` of an environment variable that holds a URL; may be repeated")
	f.IntVar(&o.Instances, "instances", 1, "processes that run with this configuration at the same time (Instances)")
	f.IntVar(&o.MaxOpen, "max-open", 0, "the pool's MaxOpen; 0: what the URL says, or the pool's default")
	f.DurationVar(&o.KeepAlive, "keep-alive", 0, "the pool's KeepAlive; 0: the pool's default")
	f.StringVar(&o.TLSFiles.CA, "tls-ca", "", "`file` of the authorities to trust (TLSFiles.CA)")
	f.StringVar(&o.TLSFiles.Cert, "tls-cert", "", "`file` of the client certificate (TLSFiles.Cert)")
	f.StringVar(&o.TLSFiles.Key, "tls-key", "", "`file` of its key (TLSFiles.Key)")
	f.DurationVar(&o.Timeout, "timeout", 10*time.Second, "time limit for each server")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// proxies returns the proxy of a URL as the environment says, in the way of net/http.
func proxies(getenv func(string) string) func(*url.URL) (*url.URL, error) {
	either := func(name string) string { return cmp.Or(getenv(name), getenv(strings.ToLower(name))) }
	c := httpproxy.Config{HTTPProxy: either("HTTP_PROXY"), HTTPSProxy: either("HTTPS_PROXY"), NoProxy: either("NO_PROXY")}
	return c.ProxyFunc()
}

// targetsOf reads the URLs. Its errors have no part of a URL in them.
func targetsOf(args, fromEnv []string, getenv func(string) string) ([]doctor.Target, error) {
	var targets []doctor.Target
	var errs []error
	add := func(from, text string) {
		t, err := doctor.Parse(from, text)
		targets, errs = append(targets, t), append(errs, err)
	}
	for i, a := range args {
		add(fmt.Sprintf("argument %d", i+1), a)
	}
	for _, name := range fromEnv {
		if text := getenv(name); text != "" {
			add(name, text)
		} else {
			errs = append(errs, errors.New("an environment variable given by --env is not set, or empty"))
		}
	}
	if len(args)+len(fromEnv) == 0 {
		errs = append(errs, errors.New("doctor: no URL is given"))
	}
	return targets, errors.Join(errs...)
}

func writeReport(r doctor.Report, asJSON bool, s Streams) error {
	write := func(w io.Writer) error { return r.WriteText(w, term.StylesFor(w, s.Getenv)) }
	if asJSON {
		write = r.WriteJSON
	}
	if err := write(s.Out); err != nil {
		return failureError{err}
	}
	if !r.Healthy {
		return errFindings
	}
	return nil
}
