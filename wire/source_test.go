package wire_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"attune/wire"
)

// source returns the syntax of the package as it stands on disk, so that what is
// added there and forgotten here fails a test.
func source(t *testing.T) []*ast.File {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// messageKinds returns all messages that are declared, as "server welcome" or
// "client ping".
func messageKinds(t *testing.T) []string {
	t.Helper()
	var kinds []string
	for _, file := range source(t) {
		for _, decl := range file.Decls {
			method, ok := decl.(*ast.FuncDecl)
			if !ok || method.Recv == nil {
				continue
			}
			side, ok := strings.CutSuffix(method.Name.Name, "Message")
			if !ok || side != "server" && side != "client" {
				continue
			}
			var tag string
			if len(method.Body.List) == 1 {
				if ret, ok := method.Body.List[0].(*ast.ReturnStmt); ok && len(ret.Results) == 1 {
					tag = literal(t, ret.Results[0])
				}
			}
			if tag == "" {
				t.Fatalf("cannot tell the type of the message at %s", method.Name.Name)
			}
			kinds = append(kinds, side+" "+tag)
		}
	}
	return kinds
}

// constants returns the values of the string constants declared with a type of the package.
func constants(t *testing.T) map[string][]string {
	t.Helper()
	values := make(map[string][]string)
	for _, file := range source(t) {
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			for _, spec := range group.Specs {
				value, ok := spec.(*ast.ValueSpec)
				if !ok {
					continue
				}
				if name, ok := value.Type.(*ast.Ident); ok {
					for _, v := range value.Values {
						if s := literal(t, v); s != "" {
							values[name.Name] = append(values[name.Name], s)
						}
					}
				}
			}
		}
	}
	return values
}

func literal(t *testing.T, expr ast.Expr) string {
	t.Helper()
	lit, ok := expr.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The vocabularies that clients may rely on, as the protocol spells them: a word may
// be added here, none renamed or removed.
func TestVocabulary(t *testing.T) {
	want := map[string]string{
		"Mode":      "live degraded",
		"GapReason": "listener_reconnected cursor_expired cursor_unknown cursor_invalid source_overflow",
		"ByeReason": "server_shutdown token_expired access_withdrawn slow_consumer over_capacity",
		"Status":    "requested scheduling scheduled running completed failed canceling cancelled timeout abandoned",
		"Code": "invalid_json unknown_type invalid_filter forbidden too_many_filters cursor_not_first " +
			"invalid_parameter unknown_action not_found method_not_allowed read_only no_executions already_terminal " +
			"unauthenticated too_large over_capacity not_ready internal",
	}
	got := constants(t)
	for name, words := range want {
		if diff := cmp.Diff(strings.Fields(words), got[name], cmpopts.SortSlices(strings.Compare)); diff != "" {
			t.Errorf("%s (-protocol +code):\n%s", name, diff)
		}
	}
	var statuses []string
	for _, s := range wire.Statuses() {
		statuses = append(statuses, string(s))
	}
	if diff := cmp.Diff(strings.Fields(want["Status"]), statuses); diff != "" {
		t.Errorf("Statuses (-protocol +code):\n%s", diff)
	}
}
