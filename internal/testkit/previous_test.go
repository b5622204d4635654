package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// PreviousBinary builds the binary of the commit before this one, or of the one that LINECARD_PREVIOUS names, and returns its path; it goes
// with the test. The repository is not changed. Where the history is not there, as in a clone of depth 1 or a tree without git, the test is
// skipped, and says what would bring it, unless LINECARD_PREVIOUS asks for it.
func PreviousBinary(t testing.TB) string {
	t.Helper()
	commit, given := os.LookupEnv("LINECARD_PREVIOUS")
	if !given {
		commit = "HEAD~1"
	}
	root, err := git("", "rev-parse", "--show-toplevel")
	if err == nil {
		commit, err = git(root, "rev-parse", "--verify", "--quiet", commit+"^{commit}")
	}
	if err != nil {
		const text = "the previous commit is not here (%v): have git fetch it, as by git fetch --deepen 1, to test upgrades from it"
		if given {
			t.Fatalf(text, err)
		}
		t.Skipf(text, err)
	}
	tree := t.TempDir()
	archive := exec.Command("git", "-C", root, "archive", "--format=tar", commit)
	unpack := exec.Command("tar", "-x", "-C", tree)
	unpack.Stdin, err = archive.StdoutPipe()
	must(t, err)
	must(t, archive.Start())
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	must(t, archive.Wait())
	path := filepath.Join(t.TempDir(), "linecard-previous")
	build := exec.Command("go", "build", "-o", path, "./cmd/linecard")
	build.Dir = tree
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building commit %s: %v\n%s", commit, err, out)
	}
	t.Logf("the previous binary is that of commit %s", commit)
	return path
}

// git returns the trimmed output of a command in a directory.
func git(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}
