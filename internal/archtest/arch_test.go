package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "linecard.example"

// maxLines is the hard limit of a source file; 80 to 300 is what a reader wants.
const maxLines = 500

// maxTestLines is the limit of a test file: tables and scenarios may be longer than code.
const maxTestLines = 900

// layers says which of our packages a package may import, by the first match of its folder. Later layers see earlier ones.
// A package that matches none fails the test: decide where it belongs.
var layers = []struct {
	name     string
	packages []string
	may      []string
}{
	{"codecs", []string{"internal/stanza"}, nil},
	{"leaves", []string{"internal/wire", "internal/slab", "internal/metrics", "internal/config", "internal/planted", "internal/roster", "internal/certfile"}, []string{"internal/stanza"}},
	{"shared services", []string{"internal/link", "internal/shard", "internal/admin"},
		[]string{"internal/stanza", "internal/wire", "internal/slab", "internal/metrics", "internal/config", "internal/planted", "internal/roster"}},
	{"file format", []string{"gateway/client/media"}, nil},
	{"client", []string{"gateway/client"}, []string{"internal/stanza", "internal/wire", "internal/planted", "gateway/client/media"}},
	{"daemons", []string{"gateway", "router", "offline", "border", "mediad", "turnd"},
		[]string{"internal/stanza", "internal/wire", "internal/slab", "internal/metrics", "internal/config", "internal/planted", "internal/roster", "internal/certfile", "internal/link", "internal/shard", "internal/admin"}},
	{"kernel tuning", []string{"kernel-tuning"}, nil},
	{"layouts", []string{"bench/cluster"}, nil},
	{"bench", []string{"bench", "bench/swarm", "bench/meter", "bench/report", "bench/relay"},
		[]string{"kernel-tuning", "internal/stanza", "internal/wire", "internal/slab", "internal/metrics", "internal/config", "gateway/client", "bench", "bench/swarm", "bench/meter", "bench/report", "bench/relay", "bench/cluster", "internal/testkit"}},
	{"node", []string{"internal/node"},
		[]string{"internal/stanza", "internal/wire", "internal/slab", "internal/metrics", "internal/config", "internal/roster", "internal/link", "internal/shard", "internal/admin",
			"gateway", "router", "offline", "border", "mediad", "turnd"}},
	{"judge", []string{"internal/history"}, nil},
	{"testkit", []string{"internal/testkit"},
		[]string{"internal/history", "internal/stanza", "internal/wire", "internal/config", "internal/planted", "internal/link", "internal/shard", "internal/node", "gateway", "gateway/client", "gateway/client/media", "router", "offline", "bench/cluster", "bench/relay"}},
	{"simulation", []string{"internal/simtest"},
		[]string{"internal/stanza", "internal/wire", "internal/config", "internal/planted", "internal/history", "internal/disktest", "internal/link", "internal/shard", "router", "offline"}},
	{"cmd", []string{"cmd/linecard"}, []string{"kernel-tuning", "internal/node", "internal/config", "internal/metrics", "internal/admin", "internal/wire", "internal/stanza", "gateway/client", "gateway/client/media", "bench", "bench/swarm", "bench/report"}},
	{"tests only", []string{"internal/archtest", "internal/disktest"}, nil},
	{"generators", []string{"internal/stanza/gen"}, nil},
}

// owners says which packages alone may import a module; tests of others may not either.
var owners = map[string][]string{
	"github.com/panjf2000/gnet":       {"gateway"},
	"github.com/pion/":                {"turnd"},
	"google.golang.org/grpc":          {"internal/link"},
	"github.com/hashicorp/memberlist": {"internal/link"},
	"github.com/hashicorp/raft":       {"internal/shard"},
	"github.com/cockroachdb/pebble":   {"internal/shard", "router", "offline", "internal/disktest"},
}

// codecsMayNot lists what codecs and wire formats must do without: their input is bytes and nothing else.
var codecsMayNot = []string{"net", "log", "log/slog", "net/http"}

type source struct {
	path, folder string
	test         bool
	file         *ast.File
	lines        int
	generated    bool
}

func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var all []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "data") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		all = append(all, source{
			path: filepath.ToSlash(rel), folder: filepath.ToSlash(filepath.Dir(rel)),
			test: strings.HasSuffix(name, "_test.go"), file: f, lines: bytes.Count(text, []byte("\n")), generated: ast.IsGenerated(f),
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d source files found", len(all))
	}
	return all
}

func imports(s source) []string {
	var list []string
	for _, i := range s.file.Imports {
		list = append(list, strings.Trim(i.Path.Value, `"`))
	}
	return list
}

func TestLayers(t *testing.T) {
	for _, s := range sources(t) {
		layer := slices.IndexFunc(layers, func(l struct {
			name     string
			packages []string
			may      []string
		}) bool {
			return slices.Contains(l.packages, s.folder)
		})
		if layer < 0 {
			t.Errorf("%s: folder %s stands in no layer", s.path, s.folder)
			continue
		}
		for _, i := range imports(s) {
			own, ok := strings.CutPrefix(i, module+"/")
			if !ok || own == s.folder {
				continue
			}
			if s.test && (own == "internal/testkit" || own == "internal/disktest") {
				continue // tests from end to end may stand beside what they test
			}
			if !slices.Contains(layers[layer].may, own) {
				t.Errorf("%s (%s) must not import %s", s.path, layers[layer].name, own)
			}
		}
	}
}

func TestOwners(t *testing.T) {
	for _, s := range sources(t) {
		for _, i := range imports(s) {
			for prefix, who := range owners {
				if strings.HasPrefix(i, prefix) && !slices.Contains(who, s.folder) {
					t.Errorf("%s must not import %s: only %s may", s.path, i, strings.Join(who, ", "))
				}
			}
			if (s.folder == "internal/stanza" || s.folder == "internal/wire") && !s.test && slices.Contains(codecsMayNot, i) {
				t.Errorf("%s: a codec must not import %s", s.path, i)
			}
		}
	}
}

// TestCodecsHaveNoClock looks for calls that read the time in the codecs.
func TestCodecsHaveNoClock(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || (s.folder != "internal/stanza" && s.folder != "internal/wire") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "After", "Sleep", "NewTimer", "NewTicker"}, sel.Sel.Name) {
				t.Errorf("%s reads the clock: time.%s", s.path, sel.Sel.Name)
			}
			return true
		})
	}
}

func TestFileSize(t *testing.T) {
	for _, s := range sources(t) {
		limit := maxLines
		if s.test {
			limit = maxTestLines
		}
		if s.lines > limit && !s.generated {
			t.Errorf("%s has %d lines, more than %d", s.path, s.lines, limit)
		}
	}
}

func TestPackageDocs(t *testing.T) {
	docs := map[string]int{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		docs[s.folder] += 0
		if s.file.Doc != nil {
			docs[s.folder]++
			if words := len(strings.Fields(s.file.Doc.Text())); words < 20 {
				t.Errorf("%s: the package document has only %d words", s.path, words)
			}
		}
	}
	for folder, n := range docs {
		if n != 1 {
			t.Errorf("%s has %d package documents, want 1", folder, n)
		}
	}
}

func TestPackageNames(t *testing.T) {
	for _, s := range sources(t) {
		if name := s.file.Name.Name; slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "types"}, name) {
			t.Errorf("%s: a package named %s says nothing", s.path, name)
		}
	}
}
