package planted

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience ends a test binary that does not end by itself, which is a failure of this test: a bug that hangs a test is not caught.
const patience = 15 * time.Minute

// root is the module's root, from this package's folder.
const root = "../.."

// TestSuiteCatches runs the tests of the table in a build with the bugs in it: they pass without one, and each bug makes its own fail.
func TestSuiteCatches(t *testing.T) {
	lookAtSources(t)
	dir := buildTests(t)
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		done := map[string]bool{}
		for _, bug := range All() {
			for _, c := range inThisRun(bug) {
				if key := c.pkg + " " + c.test; !done[key] {
					done[key] = true
					passes(t, dir, c)
				}
			}
		}
	})
	for _, bug := range All() {
		t.Run(string(bug), func(t *testing.T) {
			t.Parallel()
			if len(inThisRun(bug)) == 0 {
				t.Error("no test catches it")
			}
			for _, c := range inThisRun(bug) {
				out, failed := run(t, dir, bug, c)
				if fault := judge(out, failed, bug, c); fault != "" {
					t.Errorf("%s %s %s:\n%s", c.pkg, c.test, fault, end(out))
				}
			}
		})
	}
}

func inThisRun(bug Bug) (now []catch) {
	for _, c := range catches[bug] {
		if !c.long || os.Getenv("LINECARD_LONG") != "" {
			now = append(now, c)
		}
	}
	return now
}

// lookAtSources touches every source file, so that `go test` knows what a cached result of this test depends on: the tests that it runs
// are built by a command, of which it sees nothing.
func lookAtSources(t *testing.T) {
	t.Helper()
	seen := 0
	eachSource(t, func(file string) {
		seen++
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
	})
	if seen < 100 {
		t.Fatalf("only %d source files", seen)
	}
}

// eachSource calls f with every Go file of the module.
func eachSource(t *testing.T, f func(file string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case strings.HasSuffix(file, ".go"):
			f(file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// buildTests builds the test binaries of all packages in the table with the tag, and returns their folder.
func buildTests(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"test", "-c", "-tags", "planted", "-o", dir + "/"}
	var packages []string
	for _, list := range catches {
		for _, c := range list {
			if p := "./" + c.pkg; !slices.Contains(packages, p) {
				packages = append(packages, p)
			}
		}
	}
	slices.Sort(packages)
	goCommand(t, append(args, packages...)...)
	return dir
}

func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// run runs one test with a bug, or with none, and returns what it wrote.
func run(t *testing.T, dir string, bug Bug, c catch) (out string, failed bool) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, path.Base(c.pkg)+".test"), "-test.v", "-test.timeout=0", "-test.run", pattern(c.test))
	cmd.Dir = filepath.Join(root, c.pkg)
	cmd.Env = append(os.Environ(), Variable+"="+string(bug), "LINECARD_LONG=") // the tests in their short form, in the long run too
	b, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s %s does not end:\n%s", c.pkg, c.test, end(string(b)))
	}
	t.Logf("%s %s: %v", c.pkg, c.test, time.Since(began).Round(10*time.Millisecond))
	return string(b), err != nil
}

// pattern matches one test and nothing else.
func pattern(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// end returns the last lines of a test's output.
func end(out string) string { return out[max(0, len(out)-4000):] }

func passes(t *testing.T, dir string, c catch) {
	t.Helper()
	out, failed := run(t, dir, "", c)
	if failed || !strings.Contains(out, "--- PASS: "+c.test+" ") || strings.Contains(out, AtWork) {
		t.Errorf("%s %s does not pass without a bug:\n%s", c.pkg, c.test, end(out))
	}
}

// judge returns why a run has not caught its bug, "" if it has.
func judge(out string, failed bool, bug Bug, c catch) string {
	switch {
	case !strings.Contains(out, AtWork+string(bug)):
		return "does not come near the bug"
	case !failed:
		return "passes with the bug"
	case strings.Contains(out, "panic: ") || strings.Contains(out, "fatal error: "):
		return "ends in a panic"
	case !strings.Contains(out, "--- FAIL: "+c.test+" "):
		return "is not what failed"
	case !regexp.MustCompile(c.says).MatchString(out):
		return fmt.Sprintf("fails without the words %q", c.says)
	}
	return ""
}

// TestJudge: a judge that cannot say no proves nothing.
func TestJudge(t *testing.T) {
	c := catch{pkg: "p", test: "TestX/a", says: `lost \d+`}
	const good = AtWork + "no-sync\n    x_test.go:1: lost 3\n    --- FAIL: TestX/a (0.00s)\n"
	for _, x := range []struct {
		out    string
		failed bool
		want   string
	}{
		{good, true, ""},
		{good, false, "passes"},
		{strings.Replace(good, "no-sync", "no-dedup", 1), true, "come near"},
		{strings.Replace(good, "lost 3", "waited in vain", 1), true, "without the words"},
		{strings.Replace(good, "TestX/a", "TestX/ab", 1), true, "not what failed"},
		{good + "panic: test timed out after 10m0s", true, "panic"},
	} {
		if got := judge(x.out, x.failed, NoSync, c); (x.want == "") != (got == "") || !strings.Contains(got, x.want) {
			t.Errorf("%q: %q, want %q", x.out, got, x.want)
		}
	}
}
