// Package client talks to an attune server: executions over HTTP, a stream of
// notifications over WebSocket or Server-Sent Events, and Wait, which follows one
// execution to its end.
//
// A stream resumes: a lost connection is made anew with the last cursor, and where
// it cannot be proved that nothing was missed the caller is handed a gap. Nothing is
// dropped in silence. No method leaves a goroutine behind when it returns.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
)

// maxMessage bounds a frame, an event and an answer: far beyond what a server
// sends, near enough that a wrong peer cannot exhaust the memory.
const maxMessage = 64 << 20

// Config says where the server is and as whom to speak to it.
type Config struct {
	// BaseURL is the server's http or https URL. It may have a path, for a server
	// behind a proxy; it has no query.
	BaseURL string
	// Token, if any, is sent as "Authorization: Bearer" with every request.
	Token string
	// HTTPClient makes all connections; nil for one of the Client's own.
	HTTPClient *http.Client
	// Logger hears what a caller need not act on; nil for none.
	Logger *slog.Logger
}

// Client is a server as its clients see it. Its methods may be called from several
// goroutines at once.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
	log   *slog.Logger
}

// New checks cfg and returns a Client. It connects to nothing.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.BaseURL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("server URL %q: %w", cfg.BaseURL, err)
	case base.Scheme != "http" && base.Scheme != "https", base.Host == "":
		return nil, fmt.Errorf("server URL %q: want http://HOST:PORT or https://HOST", cfg.BaseURL)
	case base.RawQuery != "" || base.Fragment != "":
		return nil, fmt.Errorf("server URL %q: want no query and no fragment", cfg.BaseURL)
	case base.User != nil:
		return nil, fmt.Errorf("server URL %q: want no user name; a token says who you are", base.Redacted())
	case strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return nil, errors.New("token: want printable ASCII without spaces")
	}
	base.Path, base.RawPath = strings.TrimRight(base.Path, "/"), ""
	c := &Client{base: base, token: cfg.Token, http: cfg.HTTPClient, log: cfg.Logger}
	if c.http == nil {
		c.http = &http.Client{Transport: defaultTransport()}
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// URL returns the server's URL without a trailing slash.
func (c *Client) URL() string { return c.base.String() }

// Close gives up connections that are kept for later requests.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// defaultTransport is a transport of the client's own, so that Close closes what
// this client opened and nothing else.
func defaultTransport() http.RoundTripper {
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		return t.Clone()
	}
	return http.DefaultTransport
}

// endpoint returns the URL of path, which starts with a slash.
func (c *Client) endpoint(path string, query url.Values) *url.URL {
	u := c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	return u
}

// header returns the headers that every request carries.
func (c *Client) header() http.Header {
	h := make(http.Header)
	if c.token != "" {
		h.Set("Authorization", "Bearer "+c.token)
	}
	return h
}

// call is one request and the JSON of its answer.
type call struct {
	method, path string
	query        url.Values
	body         any // encoded as JSON unless nil
	want         int // the status of success
}

// do makes the call, decodes its answer into answer and returns the cursor that came
// with it. An answer of another status is a *StatusError.
func (c *Client) do(ctx context.Context, in call, answer any) (cursor string, err error) {
	u := c.endpoint(in.path, in.query)
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s %s: %w", in.method, u.Redacted(), plain(err))
		}
	}()
	var body io.Reader
	if in.body != nil {
		text, err := encode(in.body)
		if err != nil {
			return "", err
		}
		body = strings.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, in.method, u.String(), body)
	if err != nil {
		return "", err
	}
	req.Header = c.header()
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != in.want {
		return "", statusError(resp)
	}
	text, err := io.ReadAll(http.MaxBytesReader(nil, resp.Body, maxMessage))
	if err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return "", fmt.Errorf("decode the answer: %w", err)
	}
	return resp.Header.Get("Attune-Cursor"), nil
}

// encode returns v as JSON, characters such as < left as they are.
func encode(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", fmt.Errorf("encode the request: %w", err)
	}
	return b.String(), nil
}

// plain takes off what net/http puts around a transport error: the caller names the
// method and the URL itself.
func plain(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// Ready asks whether the server is ready to serve; what it is not ready for is a
// *StatusError.
func (c *Client) Ready(ctx context.Context) error {
	var answer json.RawMessage
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/readyz", want: http.StatusOK}, &answer)
	return err
}
