package httpclient_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/poolkeeper/poolkeeper"
	"github.com/poolkeeper/poolkeeper/httpclient"
)

func TestEveryFaultIsReportedAtOnceAndNamesTheField(t *testing.T) {
	_, err := httpclient.New(httpclient.Config{
		Name: "billing", BaseURL: "ftp://user:s3cret@host/x?y=s3cret", Class: 9, MaxOpen: -1, MaxIdle: 70000, MaxWaiting: -2,
		DialTimeout: -1, HeaderTimeout: -2, MaxIdleTime: 300, CheckPath: "healthz", Start: 7, TLSFiles: poolkeeper.TLSFiles{Cert: "none"},
	})
	if err == nil {
		t.Fatal("it is accepted")
	}
	for _, want := range []string{
		`new "billing": BaseURL has the scheme "ftp"`, "Class is Class(9); it must be", "MaxOpen is -1; it must be 0 (the default) to 65535",
		"MaxIdle is 70000", "MaxWaiting is -2", "DialTimeout is -1ns", "HeaderTimeout is -2ns", "MaxIdleTime is 300ns",
		`CheckPath is "healthz"; it must begin with /`, "Start is StartPolicy(7)", "TLSFiles.Cert", "Cert and Key are needed both",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("it shows the secret: %v", err)
	}
	for _, cfg := range []httpclient.Config{
		{FailFastAfter: time.Second},
		{CheckPath: "/x"},
		{MaxWaiting: 1},
		{BaseURL: "http://user:s3cret@host"},
		{BaseURL: "http://"},
		{BaseURL: "http://h?x=1"},
		{BaseURL: "\x00"},
	} {
		if err := cfg.Validate(); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v: %v", cfg, err)
		}
	}
}

func TestClassesChooseDefaults(t *testing.T) {
	for class, want := range map[httpclient.Class]string{
		httpclient.ClassStandard:  "5s 5s 5s 15s 15s 30s 5m0s",
		httpclient.ClassShort:     "500ms 500ms 500ms 1s 1s 2s 1m0s",
		httpclient.ClassStreaming: "5s 5s 5s 15s off off off",
	} {
		c, err := httpclient.New(httpclient.Config{Class: class})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Abort() }()
		got := map[string]string{}
		for _, a := range c.Settings() {
			got[a.Key] = a.Value.String()
		}
		var all []string
		for _, key := range []string{"acquire", "dial", "tls", "header", "body", "request"} {
			all = append(all, got[key+"_timeout"])
		}
		if all := strings.Join(append(all, got["leak_threshold"]), " "); all != want {
			t.Errorf("%s: %s, want %s", class, all, want)
		}
	}
}

func TestFromEnv(t *testing.T) {
	for k, v := range map[string]string{
		"BASE_URL": "https://billing.internal", "CLASS": "short", "MAX_OPEN": "7", "MAX_WAITING": "none", "BODY_TIMEOUT": "off",
		"HEADER_TIMEOUT": "3s", "CHECK_PATH": "/healthz", "START": "start-degraded",
		"HOSTS": "10.0.0.7:443, 10.0.0.8:443",
	} {
		t.Setenv("BILLING_"+k, v)
	}
	c, err := httpclient.FromEnv("BILLING")
	if err != nil {
		t.Fatal(err)
	}
	want := `httpclient.Config{BaseURL:https://billing.internal Hosts:[10.0.0.7:443 10.0.0.8:443] Class:ClassShort MaxOpen:7 MaxWaiting:-1 HeaderTimeout:3s ` +
		`BodyTimeout:-1ns CheckPath:/healthz Start:StartDegraded}`
	if got := fmt.Sprint(c); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	t.Setenv("BILLING_CLASS", "long")
	t.Setenv("BILLING_MAX_OPEN", "many")
	if _, err := httpclient.FromEnv("BILLING"); err == nil || !strings.Contains(err.Error(), `BILLING_CLASS is "long"; it must be one of standard, short, streaming`) ||
		!strings.Contains(err.Error(), "BILLING_MAX_OPEN") {
		t.Errorf("%v", err)
	}
}
