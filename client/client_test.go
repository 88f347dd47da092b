package client_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"attune/client"
	"attune/wire"
)

func TestNew(t *testing.T) {
	tests := map[string]struct {
		cfg  client.Config
		url  string
		want string // of the error
	}{
		"Plain":       {client.Config{BaseURL: "http://localhost:8081"}, "http://localhost:8081", ""},
		"Slash":       {client.Config{BaseURL: "http://localhost:8081/"}, "http://localhost:8081", ""},
		"Path":        {client.Config{BaseURL: "https://example.org/attune/"}, "https://example.org/attune", ""},
		"Token":       {client.Config{BaseURL: "https://example.org", Token: "a.b-c_d"}, "https://example.org", ""},
		"NoScheme":    {client.Config{BaseURL: "localhost:8081"}, "", "want http://"},
		"WebSocket":   {client.Config{BaseURL: "ws://localhost:8081"}, "", "want http://"},
		"Empty":       {client.Config{}, "", "want http://"},
		"NoHost":      {client.Config{BaseURL: "http://"}, "", "want http://"},
		"Query":       {client.Config{BaseURL: "http://localhost:8081?x=1"}, "", "no query"},
		"User":        {client.Config{BaseURL: "http://me:secret@localhost"}, "", "no user name"},
		"Unparseable": {client.Config{BaseURL: "http://[::1"}, "", "server URL"},
		"BadToken":    {client.Config{BaseURL: "http://localhost", Token: "a\r\nb"}, "", "token"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := client.New(tt.cfg)
			switch {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want == "":
				if c.URL() != tt.url {
					t.Errorf("URL %q, want %q", c.URL(), tt.url)
				}
			case err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret"):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// answer is a server that answers every request alike and remembers the last one.
type answer struct {
	status int
	header http.Header
	body   string

	method, path, query, authorization, sent string
}

func (a *answer) serve(t *testing.T, cfg client.Config) *client.Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.method, a.path, a.query = r.Method, r.URL.Path, r.URL.RawQuery
		a.authorization, a.sent = r.Header.Get("Authorization"), string(body)
		maps.Copy(w.Header(), a.header)
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
	}))
	t.Cleanup(s.Close)
	cfg.BaseURL = s.URL + "/base/"
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestClient_Execute(t *testing.T) {
	a := &answer{
		status: http.StatusCreated,
		header: http.Header{"Attune-Cursor": {"k3f9.1041"}},
		body:   `{"id":51,"action_ref":"core.echo","parameters":{"message":"<Hello!>"},"parent":null,"executor":null,"status":"requested","result":null,"created":"2026-03-03T19:42:41.123456Z","started_at":null,"updated":"2026-03-03T19:42:41.123456Z","new_field":1}`,
	}
	c := a.serve(t, client.Config{Token: "secret"})
	started, err := c.Execute(t.Context(), wire.ExecutionRequest{ActionRef: "core.echo", Parameters: json.RawMessage(`{"message":"<Hello!>"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if started.ID != 51 || started.Cursor != "k3f9.1041" || started.Status != wire.StatusRequested || string(started.Result) != "null" {
		t.Errorf("got %+v", started)
	}
	want := answer{
		method: "POST", path: "/base/executions", authorization: "Bearer secret",
		sent: `{"action_ref":"core.echo","parameters":{"message":"<Hello!>"}}` + "\n",
	}
	got := answer{method: a.method, path: a.path, query: a.query, authorization: a.authorization, sent: a.sent}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(answer{})); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestClient_List(t *testing.T) {
	a := &answer{status: http.StatusOK, body: `{"items":[{"id":2},{"id":1}],"next_before":1}`}
	list, err := a.serve(t, client.Config{}).List(t.Context(), wire.ExecutionQuery{
		Status: wire.StatusFailed, ActionRef: "core.echo", Parent: new(int64(7)), Limit: 2, Before: new(int64(3)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 2 || list.NextBefore == nil || *list.NextBefore != 1 {
		t.Errorf("got %+v", list)
	}
	if want := "action_ref=core.echo&before=3&limit=2&parent=7&status=failed"; a.query != want || a.authorization != "" {
		t.Errorf("asked %q with authorization %q, want %q", a.query, a.authorization, want)
	}
	if _, err := a.serve(t, client.Config{}).List(t.Context(), wire.ExecutionQuery{}); err != nil || a.query != "" {
		t.Errorf("asked %q: %v", a.query, err)
	}
}

func TestClient_Cancel(t *testing.T) {
	a := &answer{status: http.StatusAccepted, body: `{"id":51,"status":"canceling"}`}
	e, err := a.serve(t, client.Config{}).Cancel(t.Context(), 51)
	if err != nil || e.Status != wire.StatusCanceling || a.method != "POST" || a.path != "/base/executions/51/cancel" {
		t.Errorf("got %+v, %v by %s %s", e, err, a.method, a.path)
	}
}

func TestClient_Errors(t *testing.T) {
	tests := map[string]struct {
		answer    answer
		code      wire.Code
		message   string
		permanent bool
	}{
		"Problem": {
			answer{status: 422, body: `{"type":"about:blank","title":"Unprocessable","status":422,"code":"unknown_action","detail":"no action core.ecko"}`},
			wire.CodeUnknownAction, "no action core.ecko", true,
		},
		"TitleOnly":   {answer{status: 403, body: `{"code":"forbidden","title":"Forbidden"}`}, wire.CodeForbidden, "Forbidden", true},
		"Proxy":       {answer{status: 502, body: `<html>bad gateway</html>`}, "", "502 Bad Gateway", false},
		"Overloaded":  {answer{status: 429}, "", "429", false},
		"Moved":       {answer{status: 304}, "", "304", true},
		"NotTheWhole": {answer{status: 200, body: `{"id":51`}, "", "decode the answer", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := tt.answer.serve(t, client.Config{Token: "secret"}).Execution(t.Context(), 51)
			if err == nil || !strings.Contains(err.Error(), tt.message) || !strings.Contains(err.Error(), "/executions/51") || strings.Contains(err.Error(), "secret") {
				t.Fatalf("got %v", err)
			}
			if client.Permanent(err) != tt.permanent {
				t.Errorf("permanent %v, want %v: %v", !tt.permanent, tt.permanent, err)
			}
			if e, ok := errors.AsType[*wire.Error](err); ok != (tt.code != "") || ok && (e.Code != tt.code || e.Message != tt.message) {
				t.Errorf("got %+v, want code %q", e, tt.code)
			}
		})
	}
}

func TestClient_Unreachable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	c, err := client.New(client.Config{BaseURL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Execution(t.Context(), 51)
	if err == nil || client.Permanent(err) || strings.Count(err.Error(), s.URL) != 1 {
		t.Errorf("got %v, want the URL once", err)
	}
}

func TestClient_Ready(t *testing.T) {
	if err := (&answer{status: 200, body: `{"status":"ready"}`}).serve(t, client.Config{}).Ready(t.Context()); err != nil {
		t.Error(err)
	}
	a := &answer{status: 503, body: `{"code":"not_ready","detail":"the canary has not arrived"}`}
	if err := a.serve(t, client.Config{}).Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "the canary has not arrived") {
		t.Errorf("got %v", err)
	}
}
