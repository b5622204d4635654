package report

import (
	"bytes"
	"flag"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"linecard.example/bench/meter"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden file")

// sample is a report with something of everything.
func sample() *Report {
	r := &Report{
		Schema: Schema, Scenario: "density", Title: "15,000 idle sessions <both ends> here", Command: []string{"linecard", "bench", "density"},
		Started: time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC), Seconds: 41.5,
		Machine: meter.Machine{OS: "linux", Arch: "amd64", Kernel: "6.18", CPU: "a CPU", CPUs: 2, MemoryBytes: 24 << 30, Load: "0.1 0.2 0.3",
			Yardstick: 24.5, Sysctls: map[string]string{"fs.file-max": "1"}, OpenFiles: [2]uint64{1, 2}, Tick: 1e4},
		Software: meter.Software{Version: "v0", Commit: "abc", Go: "go1.26", Modules: map[string]string{"example.com/m": "v1"}},
		Notes:    []string{},
	}
	r.Add(Figure{Scenario: "density", Key: "sessions", Name: "sessions", Value: 15000})
	r.Add(Figure{Scenario: "density", Key: "user_bytes_per_session", Name: "user memory per session", Unit: "B", Value: 1234.5, Goal: 600, Better: Less})
	r.Add(Figure{Scenario: "density", Key: "setup_cpu_us", Name: "set-up", Unit: "us", Samples: []float64{240, 210, 225}, Goal: 225, Better: Less})
	r.Add(Figure{Scenario: "density", Key: "never", Name: "what was not seen", Value: math.NaN()})
	r.Tables = append(r.Tables, Table{Title: "Memory", Header: []string{"part", "bytes"}, Rows: [][]string{{"gateway", "1"}, {"router & co"}}})
	r.Charts = append(r.Charts,
		Chart{Name: "ramp", Title: "Sessions", X: "seconds", Y: "sessions", Series: []Series{{"open", [][2]float64{{0, 0}, {1, 4000}, {2, 15000}}}}},
		Chart{Name: "peers", Title: "Memory <of> others", Y: "bytes", Bars: []Bar{{"linecard", 600, true}, {"others", 14800, false}}})
	return r
}

// TestWriteWhatCanBe holds that what cannot be drawn does not take the figures with it.
func TestWriteWhatCanBe(t *testing.T) {
	dir := t.TempDir()
	r := sample()
	r.Charts = append([]Chart{{Name: "no/such/folder"}}, r.Charts...)
	if err := r.Write(dir); err == nil {
		t.Error("no error")
	}
	if back, err := Read(dir); err != nil || len(back.Figures) != len(r.Figures) {
		t.Errorf("the figures: %v", err)
	}
	for _, name := range []string{HTMLFile, "ramp.png"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestJSON pins the form of report.json: what a script reads must not change by accident.
func TestJSON(t *testing.T) {
	dir := t.TempDir()
	r := sample()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, JSONFile))
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "report.json")
	if *rewrite {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("not as in %s (%v); -rewrite writes it anew:\n%s", golden, err, got)
	}
	back, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.MarshalJSON()
	first, err2 := r.MarshalJSON()
	if err != nil || err2 != nil || !bytes.Equal(again, first) {
		t.Errorf("read back: %v, %v\n%s", err, err2, again)
	}
	if err := os.WriteFile(filepath.Join(dir, JSONFile), []byte(`{"schema": 99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "99") {
		t.Errorf("another schema: %v", err)
	}
}

// outside finds whatever could make a browser fetch something.
var outside = regexp.MustCompile(`(?i)https?:|//[a-z]|src=|href=|@import|url\(`)

func TestHTMLStandsAlone(t *testing.T) {
	page, err := sample().HTML()
	if err != nil {
		t.Fatal(err)
	}
	if found := outside.FindAll(page, -1); found != nil {
		t.Errorf("the page refers to something outside: %q", found)
	}
	for _, part := range []string{"15,000 idle sessions &lt;both ends&gt; here", "225 (210 to 240) us", "<svg width", "router &amp; co", "600 B (missed)", "fs.file-max"} {
		if !bytes.Contains(page, []byte(part)) {
			t.Errorf("no %q in the page", part)
		}
	}
	if bytes.Count(page, []byte("<svg")) != 2 || bytes.Contains(page, []byte("<of>")) {
		t.Error("charts are missing, or their text is not escaped")
	}
}

func TestPNG(t *testing.T) {
	for _, c := range sample().Charts {
		text, err := c.PNG()
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(bytes.NewReader(text))
		if err != nil || img.Bounds().Dx() != chartWidth*pixelsPerIn/72 {
			t.Errorf("%s: %v, %v", c.Name, err, img)
			continue
		}
		colours := map[[3]uint32]bool{}
		for y := range img.Bounds().Dy() {
			for x := range img.Bounds().Dx() {
				r, g, b, _ := img.At(x, y).RGBA()
				colours[[3]uint32{r >> 8, g >> 8, b >> 8}] = true
			}
		}
		if !colours[[3]uint32{0x00, 0x72, 0xb2}] || !colours[[3]uint32{0xff, 0xff, 0xff}] {
			t.Errorf("%s: nothing is drawn", c.Name)
		}
	}
	if _, err := (Chart{Name: "empty", LogX: true}).PNG(); err != nil {
		t.Error("a chart without points: ", err)
	}
}

func TestText(t *testing.T) {
	text := sample().Text()
	for _, line := range []string{
		"| set-up                  | 225 (210 to 240) us | 225 us         |",
		"| user memory per session | 1,234 B             | 600 B (missed) |",
		"| router & co |       |",
		"Note: density: what was not seen could not be measured",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.1234: "0.123", 0.001234: "0.0012", 3.14159: "3.14", 42.42: "42.4", 1234.5: "1,234", -1234567: "-1,234,567", 999: "999"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestCompare(t *testing.T) {
	a, b := &Report{Scenario: "route"}, &Report{Scenario: "route"}
	for _, f := range []struct {
		key    string
		a, b   []float64
		better Better
		want   string
	}{
		{"steady", []float64{10, 11, 12}, []float64{11, 12, 13}, Less, "1.09 (0.92 to 1.30) within the spread"},
		{"cpu", []float64{10, 11, 12}, []float64{5, 6, 7}, Less, "0.55 (0.42 to 0.70) better"},
		{"rate", []float64{100}, []float64{50}, More, "0.50 worse"},
		{"lost", []float64{0}, []float64{0}, Less, "1 within the spread"},
		{"lost_now", []float64{0}, []float64{3}, Less, "- worse"},
	} {
		a.Add(Figure{Scenario: "route", Key: f.key, Name: f.want, Samples: f.a, Better: f.better})
		b.Add(Figure{Scenario: "route", Key: f.key, Name: f.want, Samples: f.b, Better: f.better})
	}
	a.Add(Figure{Scenario: "route", Key: "gone", Name: "- only in A", Value: 1})
	b.Add(Figure{Scenario: "route", Key: "new", Name: "- only in B", Value: 1})
	rows := Compare(a, b).Rows
	if len(rows) != 7 {
		t.Errorf("%d rows", len(rows))
	}
	for _, row := range rows {
		if got := row[3] + " " + row[4]; got != row[0] {
			t.Errorf("%s, want %s (%v)", got, row[0], row)
		}
	}
}

func TestAssertions(t *testing.T) {
	for text, want := range map[string]string{
		"user_bytes_per_session<=1300": "", "density.sessions>=15000": "",
		"user_bytes_per_session<=600": "budget of user_bytes_per_session: 1,234 B, at most 600",
		"sessions>=20000":             "budget of sessions: 15,000, at least 20,000",
		"lost<=0":                     "budget of lost: the report has no such figure",
		"storm.sessions>=1":           "budget of sessions: the report has no such figure",
	} {
		var a Assertion
		if err := a.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := sample().Check([]Assertion{a}); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{"", "sessions", "sessions<1", "sessions<=many", "Sessions<=1"} {
		if (&Assertion{}).UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
