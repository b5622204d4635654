package testkit

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// tourSteps are the steps of docs/tour.md with the series in which each leaves a trace, summed over their labels, and by how much
// one message moves it. Deliveries are two: the message to Bob, the receipt to Ann.
var tourSteps = []struct {
	title  string
	traces map[string]float64
}{
	{"The client makes it durable", nil}, // checked by its home below
	{"The gateway opens the frame", map[string]float64{`linecard_gateway_stanzas_total{direction="up",kind="message"}`: 1}},
	{"The stream carries it", map[string]float64{"linecard_link_envelopes_sent_total": 6}}, // at least
	{"The router checks it", map[string]float64{"linecard_router_messages_total": 1}},
	{"Offline proposes it", map[string]float64{"linecard_offline_shard_pack_commands_sum": 3}},
	{"The log is synced", map[string]float64{"linecard_offline_shard_commit_seconds_count": 2}},
	{"The queue takes it", map[string]float64{"linecard_offline_admitted_total": 1}},
	{"First tick", map[string]float64{`linecard_gateway_stanzas_total{direction="down",kind="ack"}`: 1}},
	{"The cursor pushes it", map[string]float64{"linecard_offline_pushed_total": 2}},
	{"Bob's gateway writes it", map[string]float64{`linecard_gateway_stanzas_total{direction="down",kind="message"}`: 1}},
	{"Bob has it", map[string]float64{`linecard_gateway_stanzas_total{direction="up",kind="delivery_ack"}`: 2}},
	{"The queue forgets it", map[string]float64{"linecard_offline_acked_entries_total": 2}},
	{"Second tick", map[string]float64{
		"linecard_offline_receipts_stored_total":                            1,
		`linecard_gateway_stanzas_total{direction="down",kind="delivered"}`: 1,
	}},
}

// TestTour sends the tour's message and looks for each step's trace.
func TestTour(t *testing.T) {
	s := Start(t, Inside, Settings{})
	ann, bob := s.NewDevice("ann", nil, DeviceOptions{}), s.NewDevice("bob", nil, DeviceOptions{})
	must(t, ann.SayAll("bob", 1, 1)) // names and lists are looked up now
	quiet(t, s, 2)
	before := s.Metrics("up")
	if n := ann.Home.Unacked(); n != 0 {
		t.Fatalf("%d messages in the home before the start", n)
	}
	sent, err := ann.Say("bob", "hello")
	must(t, err)
	must(t, ann.Acked("bob", sent))
	if n := ann.Home.Unacked(); n != 0 {
		t.Errorf("%d messages unacked in the home after the ack", n)
	}
	Eventually(t, "hello arrives, and its receipt", func() bool { return len(bob.Texts()) == 2 && ann.Delivered() == 2 })
	quiet(t, s, 4)
	after := s.Metrics("up")
	for _, step := range tourSteps {
		for series, want := range step.traces {
			if got := after.Sum(series) - before.Sum(series); got < want {
				t.Errorf("%s: %s moved by %v, want %v", step.title, series, got, want)
			}
		}
	}
}

// quiet waits until so many entries were acked in all, and nothing is queued.
func quiet(t *testing.T, s *System, acked float64) {
	t.Helper()
	Eventually(t, "empty queues", func() bool {
		m := s.Metrics("up")
		return m.Sum("linecard_offline_acked_entries_total") >= acked && m.Sum("linecard_offline_pending_receipts") == 0
	})
}

// TestTourPage holds the page against the test and against the code.
func TestTourPage(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "tour.md"))
	must(t, err)
	var titles []string
	for line := range strings.Lines(string(text)) {
		if title, ok := strings.CutPrefix(strings.TrimSpace(line), "## "); ok {
			titles = append(titles, title)
		}
	}
	if len(titles) != len(tourSteps) {
		t.Fatalf("the page has %d steps, the test %d", len(titles), len(tourSteps))
	}
	for i, step := range tourSteps {
		if want := strconv.Itoa(i+1) + ". " + step.title; titles[i] != want {
			t.Errorf("step %q of the page, want %q", titles[i], want)
		}
	}
	checkNames(t, root, string(text))
}

var (
	pageFile = regexp.MustCompile("`([a-z/]+\\.go)`")
	pageName = regexp.MustCompile("`([A-Za-z]+)\\.([A-Za-z]+)`")
)

// checkNames looks for every Type.Method of the page in one of the files named in the same paragraph or before it in its step.
func checkNames(t *testing.T, root, text string) {
	t.Helper()
	for _, section := range strings.Split(text, "\n## ") {
		section = strings.ReplaceAll(section, "\n", " ")
		var have []string
		for _, m := range pageFile.FindAllStringSubmatch(section, -1) {
			have = append(have, methods(t, filepath.Join(root, m[1]))...)
		}
		for _, m := range pageName.FindAllStringSubmatch(section, -1) {
			name := m[1] + "." + m[2]
			if m[2] == "go" || contains(have, name) {
				continue
			}
			if strings.HasPrefix(section, "13.") && name == "state.ack" {
				continue // "the same" of step 12
			}
			t.Errorf("step %.20s...: %s is in none of the files named", section, name)
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// methods lists a file's methods as Type.Method.
func methods(t *testing.T, path string) []string {
	t.Helper()
	f, err := goparser.ParseFile(token.NewFileSet(), path, nil, 0)
	must(t, err)
	var list []string
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv == nil {
			continue
		}
		recv := fn.Recv.List[0].Type
		if star, ok := recv.(*ast.StarExpr); ok {
			recv = star.X
		}
		switch x := recv.(type) {
		case *ast.IndexListExpr:
			recv = x.X
		case *ast.IndexExpr:
			recv = x.X
		}
		if id, ok := recv.(*ast.Ident); ok {
			list = append(list, id.Name+"."+fn.Name.Name)
		}
	}
	return list
}
