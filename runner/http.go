package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// Bounds of core.http_request.
const (
	defaultHTTPTimeout = 30 * time.Second
	longestHTTPTimeout = 5 * time.Minute
	maxHTTPBody        = 1 << 20
	maxHTTPHeaders     = 64 << 10
)

// httpMethods are the methods that core.http_request knows.
const httpMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// request is what core.http_request sends.
type request struct {
	method  string
	url     string
	headers map[string]string
	body    []byte
	timeout time.Duration
}

// httpRequest sends one HTTP request. Its result is {"status", "headers", "body"},
// whatever the status: body is JSON where the response is, else a string, cut off
// after 1 MiB with "truncated":true. A transport error ends as failed, a response
// that is not complete within the timeout as timeout.
//
// The request goes out from this process, to any address that it can reach: whoever
// may start executions can have the server ask for URLs within its network, and read
// the answers.
func httpRequest(p *parameters) runFunc {
	r := request{
		url:     p.httpURL(),
		method:  p.httpMethod(),
		headers: p.httpHeaders(),
		timeout: p.httpTimeout(),
	}
	if body, ok := p.take("body", optional, ""); ok {
		r.setBody(body)
	}
	return r.run
}

func (p *parameters) httpURL() string {
	const want = "an absolute http or https URL"
	s, given := p.text("url", required, want)
	u, err := url.Parse(s)
	if !given {
		return ""
	}
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		p.invalid("url", want)
	}
	return s
}

func (p *parameters) httpMethod() string {
	const want = "one of " + httpMethods
	method, given := p.text("method", optional, want)
	if !given {
		return http.MethodGet
	}
	method = strings.ToUpper(method)
	if !slices.Contains(strings.Split(httpMethods, ", "), method) {
		p.invalid("method", want)
	}
	return method
}

func (p *parameters) httpHeaders() map[string]string {
	const want = "an object of strings that are valid in HTTP headers"
	raw, ok := p.take("headers", optional, want)
	if !ok {
		return nil
	}
	var values map[string]*string
	if err := json.Unmarshal(raw, &values); err != nil || values == nil {
		p.invalid("headers", want)
		return nil
	}
	headers := make(map[string]string, len(values))
	for name, value := range values {
		if value == nil || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(*value) {
			p.invalid("headers", want)
			return nil
		}
		headers[http.CanonicalHeaderKey(name)] = *value
	}
	return headers
}

func (p *parameters) httpTimeout() time.Duration {
	const want = `a number of seconds or a duration such as "30s", above 0 and at most 5m`
	raw, ok := p.take("timeout", optional, want)
	if !ok {
		return defaultHTTPTimeout
	}
	var timeout time.Duration
	var seconds *float64
	var text *string
	switch {
	case json.Unmarshal(raw, &seconds) == nil && seconds != nil:
		// Compared as a number: the conversion of a large one has no defined result.
		if *seconds <= longestHTTPTimeout.Seconds() {
			timeout = time.Duration(*seconds * float64(time.Second))
		}
	case json.Unmarshal(raw, &text) == nil && text != nil:
		timeout, _ = time.ParseDuration(*text)
	}
	if timeout <= 0 || timeout > longestHTTPTimeout {
		p.invalid("timeout", want)
	}
	return timeout
}

// setBody takes a string as it is, and any other value as JSON.
func (r *request) setBody(raw json.RawMessage) {
	var text *string
	if json.Unmarshal(raw, &text) == nil && text != nil {
		r.body = []byte(*text)
		return
	}
	r.body = raw
	if r.headers == nil {
		r.headers = make(map[string]string)
	}
	if _, given := r.headers["Content-Type"]; !given {
		r.headers["Content-Type"] = "application/json"
	}
}

func (r *request) run(parent context.Context) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(parent, r.timeout)
	defer cancel()
	result, err := r.send(ctx)
	// The action's own deadline, and not the end of the execution.
	if err != nil && parent.Err() == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf("%w: no complete response within %s", errTimeout, r.timeout)
	}
	return result, err
}

func (r *request) send(ctx context.Context) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	for name, value := range r.headers {
		req.Header.Set(name, value)
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host // net/http sends no other
	}
	// A connection of its own: nothing stays open when the action has ended.
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHTTPHeaders,
		ForceAttemptHTTP2:      true,
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHTTPBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the response: %w", err)
	}
	return responseResult(resp, body), nil
}

// responseResult is the result of a response; body has one byte too many if it is too
// long.
func responseResult(resp *http.Response, body []byte) json.RawMessage {
	result := map[string]any{"status": resp.StatusCode}
	headers := make(map[string]string, len(resp.Header))
	for name, values := range resp.Header {
		headers[name] = storable(strings.Join(values, ", "))
	}
	result["headers"] = headers
	truncated := len(body) > maxHTTPBody
	if truncated {
		result["truncated"] = true
		body = body[:maxHTTPBody]
	}
	if !truncated && isJSON(resp.Header.Get("Content-Type")) && json.Valid(body) && utf8.Valid(body) && !bytes.Contains(body, []byte(`\u0000`)) {
		result["body"] = json.RawMessage(body)
	} else {
		result["body"] = storable(string(body))
	}
	return mustJSON(result)
}

// isJSON reports whether a Content-Type says JSON.
func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || strings.HasSuffix(media, "+json"))
}

// storable replaces what PostgreSQL cannot keep in a string.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
