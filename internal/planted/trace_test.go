package planted

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestNoTrace builds the ordinary binary and looks for the bugs in it: no symbol of this package, no name of the variable. The same
// look at a binary with the tag finds both.
func TestNoTrace(t *testing.T) {
	lookAtSources(t)
	for _, tagged := range []bool{false, true} {
		bin := filepath.Join(t.TempDir(), "linecard")
		args := []string{"build", "-o", bin}
		if tagged {
			args = append(args, "-tags", "planted")
		}
		goCommand(t, append(args, "./cmd/linecard")...)
		text, err := os.ReadFile(bin)
		if err != nil {
			t.Fatal(err)
		}
		symbols := goCommand(t, "tool", "nm", bin)
		for what, found := range map[string]bool{
			"a symbol":              bytes.Contains(symbols, []byte("linecard.example/internal/planted.")),
			"the variable's name":   bytes.Contains(text, []byte(Variable)),
			"the line that it says": bytes.Contains(text, []byte(AtWork)),
		} {
			if found != tagged {
				t.Errorf("with the tag: %v; %s found: %v", tagged, what, found)
			}
		}
	}
}

// bugSource is what planted.go says of a bug.
type bugSource struct {
	name string // of the constant
	bug  Bug
	doc  string
}

// readBugs reads the constants of planted.go.
func readBugs(t *testing.T) (bugs []bugSource) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "planted.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "Bug" {
			name, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			doc := strings.Join(strings.Fields(strings.TrimPrefix(v.Doc.Text(), v.Names[0].Name)), " ")
			bugs = append(bugs, bugSource{v.Names[0].Name, Bug(name), doc})
		}
		return true
	})
	return bugs
}

// places returns, for each constant, the files of the production code that it is planted in.
func places(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	eachSource(t, func(file string) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		rel, _ := filepath.Rel(root, file)
		for _, rest := range strings.Split(string(text), "planted.On(planted.")[1:] {
			name, _, _ := strings.Cut(rest, ")")
			if at := filepath.ToSlash(rel); !slices.Contains(found[name], at) {
				found[name] = append(found[name], at)
			}
		}
	})
	return found
}

// page is where a reader finds the table.
const page = root + "/docs/design/0008-planted-bugs.md"

var rewrite = flag.Bool("rewrite", false, "write the table of docs/design anew")

// TestPage holds the list, the table of catches, the production code and the page together.
func TestPage(t *testing.T) {
	bugs, planted := readBugs(t), places(t)
	var names []Bug
	var table strings.Builder
	table.WriteString("| bug | what it does: what it breaks | planted in | caught by |\n| --- | --- | --- | --- |\n")
	for _, b := range bugs {
		names = append(names, b.bug)
		if len(planted[b.name]) == 0 {
			t.Errorf("%s is planted nowhere", b.name)
		}
		var tests []string
		for _, c := range catches[b.bug] {
			line := fmt.Sprintf("`%s` %s", c.pkg, c.test)
			if c.long {
				line += " (long)"
			}
			tests = append(tests, line)
		}
		fmt.Fprintf(&table, "| `%s` | %s | `%s` | %s |\n", b.bug, b.doc, strings.Join(planted[b.name], "`, `"), strings.Join(tests, ", "))
	}
	if !slices.Equal(names, All()) || len(catches) != len(names) {
		t.Errorf("All returns %v, the constants are %v, %d bugs are in the table of catches", All(), names, len(catches))
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), "| bug |")
	old, after, _ := strings.Cut("| bug |"+rest, "\n\n")
	if old == strings.TrimSuffix(table.String(), "\n") {
		return
	}
	if !*rewrite {
		t.Errorf("the table of %s is not this; run the test with -rewrite:\n%s", page, table.String())
		return
	}
	if err := os.WriteFile(page, []byte(before+table.String()+"\n"+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
