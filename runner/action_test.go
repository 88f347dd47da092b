package runner_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"attune/wire"
)

func TestRunner_Create_Parameters(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.idle()
	const (
		url     = `parameter "url": want an absolute http or https URL`
		method  = `parameter "method": want one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS`
		headers = `parameter "headers": want an object of strings that are valid in HTTP headers`
		timeout = `parameter "timeout": want a number of seconds or a duration such as "30s", above 0 and at most 5m`
		seconds = `parameter "seconds": want a number from 0 to 86400`
	)
	withURL := func(more string) string { return `{"url":"http://localhost",` + more + `}` }
	tests := []struct {
		action, parameters string
		want               string // the message; "" if it is accepted
	}{
		{"core.echo", `{"message":""}`, ``},
		{"core.echo", `{"message":"a","message":"b"}`, ``},
		{"core.echo", ``, `parameter "message" is missing: want a string`},
		{"core.echo", `null`, `parameter "message" is missing: want a string`},
		{"core.echo", `{"message":null}`, `parameter "message": want a string`},
		{"core.echo", `{"message":5}`, `parameter "message": want a string`},
		{"core.echo", `{"mesage":"Hello!"}`, `unknown parameter "mesage": core.echo accepts message`},
		{"core.echo", `[]`, `parameters: want a JSON object`},
		{"core.echo", `"message"`, `parameters: want a JSON object`},
		{"core.echo", `{"message":`, `parameters: want a JSON object`},
		{"core.noop", `{}`, ``},
		{"core.noop", ` `, `parameters: PostgreSQL cannot store them as jsonb (no \u0000, no numbers beyond its range, not too deeply nested)`},
		{"core.noop", `{"b":1,"a":2}`, `unknown parameter "a": core.noop accepts none`},
		{"core.sleep", `{"seconds":0}`, ``},
		{"core.sleep", `{"seconds":86400}`, ``},
		{"core.sleep", `{}`, `parameter "seconds" is missing: want a number from 0 to 86400`},
		{"core.sleep", `{"seconds":-0.1}`, seconds},
		{"core.sleep", `{"seconds":86400.1}`, seconds},
		{"core.sleep", `{"seconds":1e400}`, seconds},
		{"core.sleep", `{"seconds":"5"}`, seconds},
		{"core.sleep", `{"seconds":null}`, seconds},
		{"core.fail", ``, ``},
		{"core.fail", `{"message":"no"}`, ``},
		{"core.fail", `{"message":{}}`, `parameter "message": want a string`},
		{"core.http_request", `{}`, `parameter "url" is missing: want an absolute http or https URL`},
		{"core.http_request", `{"url":"https://user:pass@example.com:8443/a?b=c#d"}`, ``},
		{"core.http_request", `{"url":"example.com"}`, url},
		{"core.http_request", `{"url":""}`, url},
		{"core.http_request", `{"url":"/etc/passwd"}`, url},
		{"core.http_request", `{"url":"file:///etc/passwd"}`, url},
		{"core.http_request", `{"url":"http://"}`, url},
		{"core.http_request", `{"url":"http://a b/"}`, url},
		{"core.http_request", `{"url":7}`, url},
		{"core.http_request", withURL(`"method":"post"`), ``},
		{"core.http_request", withURL(`"method":"CONNECT"`), method},
		{"core.http_request", withURL(`"method":""`), method},
		{"core.http_request", withURL(`"method":null`), method},
		{"core.http_request", withURL(`"headers":{"X-A":"b"}`), ``},
		{"core.http_request", withURL(`"headers":{"X-A":5}`), headers},
		{"core.http_request", withURL(`"headers":{"X A":"b"}`), headers},
		{"core.http_request", withURL(`"headers":{"X-A":"b\r\nX-B: c"}`), headers},
		{"core.http_request", withURL(`"headers":null`), headers},
		{"core.http_request", withURL(`"headers":["X-A: b"]`), headers},
		{"core.http_request", withURL(`"body":null`), ``},
		{"core.http_request", withURL(`"timeout":0.5`), ``},
		{"core.http_request", withURL(`"timeout":"5m"`), ``},
		{"core.http_request", withURL(`"timeout":300`), ``},
		{"core.http_request", withURL(`"timeout":300.5`), timeout},
		{"core.http_request", withURL(`"timeout":1e300`), timeout},
		{"core.http_request", withURL(`"timeout":0`), timeout},
		{"core.http_request", withURL(`"timeout":-1`), timeout},
		{"core.http_request", withURL(`"timeout":"5m1s"`), timeout},
		{"core.http_request", withURL(`"timeout":"soon"`), timeout},
		{"core.http_request", withURL(`"timeout":null`), timeout},
		{"core.http_request", withURL(`"verify":false`), `unknown parameter "verify": core.http_request accepts url, method, headers, timeout, body`},
	}
	for _, tt := range tests {
		t.Run(tt.action+" "+tt.parameters, func(t *testing.T) {
			x, err := r.Create(t.Context(), request(tt.action, tt.parameters))
			if tt.want != "" {
				equal(t, "message", wantCode(t, err, wire.CodeInvalidParameter), tt.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "status", x.Status, wire.StatusRequested)
		})
	}
}

// result is that of core.http_request.
type result struct {
	Status    int               `json:"status"`
	Headers   map[string]string `json:"headers"`
	Body      json.RawMessage   `json:"body"`
	Truncated bool              `json:"truncated"`
	Error     string            `json:"error"`
}

func TestRunner_Run_HTTPRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r, _ := b.run()
	release := make(chan struct{})
	mux := http.NewServeMux()
	answer := func(path, contentType, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = io.WriteString(w, body)
		})
	}
	answer("/json", "application/json; charset=utf-8", `{"n": 12345678901234567890}`)
	answer("/problem", "application/problem+json", `{"code":"x"}`)
	answer("/invalid", "application/json", `{"n":`)
	answer("/nul", "application/json", `{"s":"\u0000"}`)
	answer("/range", "application/json", `1e200000`)
	answer("/text", "text/plain", `{"n":1}`)
	answer("/binary", "application/octet-stream", "a\x00b\xffc")
	answer("/limit", "text/plain", strings.Repeat("x", 1<<20))
	answer("/big", "text/plain", strings.Repeat("x", 1<<20-1)+"é and so on")
	answer("/bigjson", "application/json", `"`+strings.Repeat("x", 1<<20)+`"`)
	mux.HandleFunc("/echo", func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		w.Header()["X-Twice"] = []string{"a", "b"}
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusTeapot)
		_, _ = fmt.Fprintf(w, "%s %s host=%s type=%s a=%s %s", req.Method, req.URL, req.Host, req.Header.Get("Content-Type"), req.Header.Get("X-A"), body)
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "/text", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "/loop", http.StatusFound) })
	hang := func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-release:
		case <-req.Context().Done():
		}
	}
	mux.HandleFunc("/slow", hang)
	mux.HandleFunc("/slowbody", func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.WriteString(w, "a")
		w.(http.Flusher).Flush()
		hang(w, req)
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "a")
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	host := strings.TrimPrefix(server.URL, "http://")

	tests := []struct {
		path, more string
		status     wire.Status
		want       result // the headers are looked at where the test names some; a body of "" is not
	}{
		{"/json", ``, wire.StatusCompleted, result{Status: 200, Body: json.RawMessage(`{"n": 12345678901234567890}`)}},
		{"/problem", ``, wire.StatusCompleted, result{Status: 200, Body: json.RawMessage(`{"code": "x"}`)}},
		{"/invalid", ``, wire.StatusCompleted, result{Status: 200, Body: json.RawMessage(`"{\"n\":"`)}},
		{"/nul", ``, wire.StatusCompleted, result{Status: 200, Body: json.RawMessage(`"{\"s\":\"\\u0000\"}"`)}},
		{"/range", ``, wire.StatusFailed, result{Error: "PostgreSQL cannot store the result as jsonb"}},
		{"/text", ``, wire.StatusCompleted, result{Status: 200, Body: json.RawMessage(`"{\"n\":1}"`), Headers: map[string]string{"Content-Type": "text/plain", "Content-Length": "7"}}},
		{"/binary", ``, wire.StatusCompleted, result{Status: 200, Body: json.RawMessage(`"a�b�c"`)}},
		{"/limit", ``, wire.StatusCompleted, result{Status: 200, Body: json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)}},
		{"/big", ``, wire.StatusCompleted, result{Status: 200, Truncated: true, Body: json.RawMessage(`"` + strings.Repeat("x", 1<<20-1) + `�"`)}},
		{"/bigjson", ``, wire.StatusCompleted, result{Status: 200, Truncated: true, Body: json.RawMessage(`"\"` + strings.Repeat("x", 1<<20-1) + `"`)}},
		{"/echo?q=1", ``, wire.StatusCompleted, result{Status: 418, Body: json.RawMessage(`"GET /echo?q=1 host=` + host + ` type= a= "`), Headers: map[string]string{"X-Twice": "a, b"}}},
		{"/echo", `,"method":"post","body":"text","headers":{"x-a":"b","host":"example.com"}`, wire.StatusCompleted, result{Status: 418, Body: json.RawMessage(`"POST /echo host=example.com type= a=b text"`)}},
		{"/echo", `,"method":"PUT","body":{"n":[1]}`, wire.StatusCompleted, result{Status: 418, Body: json.RawMessage(`"PUT /echo host=` + host + ` type=application/json a= {\"n\": [1]}"`)}},
		{"/echo", `,"method":"PATCH","body":5,"headers":{"content-type":"text/x"}`, wire.StatusCompleted, result{Status: 418, Body: json.RawMessage(`"PATCH /echo host=` + host + ` type=text/x a= 5"`)}},
		{"/echo", `,"method":"HEAD"`, wire.StatusCompleted, result{Status: 418, Body: json.RawMessage(`""`)}},
		{"/redirect", ``, wire.StatusCompleted, result{Status: 200, Body: json.RawMessage(`"{\"n\":1}"`)}},
		{"/loop", ``, wire.StatusFailed, result{Error: "stopped after 10 redirects"}},
		{"/cut", ``, wire.StatusFailed, result{Error: "read the response: unexpected EOF"}},
		{"/slow", `,"timeout":"100ms"`, wire.StatusTimeout, result{Error: "timed out: no complete response within 100ms"}},
		{"/slowbody", `,"timeout":0.1`, wire.StatusTimeout, result{Error: "timed out: no complete response within 100ms"}},
	}
	for _, tt := range tests {
		t.Run(tt.path+tt.more, func(t *testing.T) {
			t.Parallel()
			x, err := r.Create(t.Context(), request("core.http_request", `{"url":"`+server.URL+tt.path+`"`+tt.more+`}`))
			if err != nil {
				t.Fatal(err)
			}
			x = b.reaches(x.ID, tt.status)
			var got result
			if err := json.Unmarshal(x.Result, &got); err != nil {
				t.Fatal(err)
			}
			for name, value := range tt.want.Headers {
				equal(t, name, got.Headers[name], value)
			}
			if !strings.HasSuffix(got.Error, tt.want.Error) {
				t.Errorf("got error %q, want %q", got.Error, tt.want.Error)
			}
			got.Headers, tt.want.Headers, got.Error, tt.want.Error = nil, nil, "", ""
			equal(t, "result", got, tt.want)
		})
	}
	t.Run("Refused", func(t *testing.T) {
		x := b.reaches(b.create(r, "core.http_request", `{"url":"http://user:secret-word@127.0.0.1:1/"}`).ID, wire.StatusFailed)
		if got := string(x.Result); !strings.Contains(got, "connection refused") || strings.Contains(got, "secret-word") {
			t.Errorf("got result %s", got)
		}
	})
	t.Run("Cancelled", func(t *testing.T) {
		x := b.create(r, "core.http_request", `{"url":"`+server.URL+`/slow","timeout":"5m"}`)
		b.reaches(x.ID, wire.StatusRunning)
		start := time.Now()
		if _, err := r.Cancel(t.Context(), x.ID); err != nil {
			t.Fatal(err)
		}
		b.reaches(x.ID, wire.StatusCancelled)
		t.Logf("cancelled within %s", time.Since(start))
	})
}
