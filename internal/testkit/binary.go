package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"linecard.example/internal/planted"
)

var build struct {
	once sync.Once
	path string
	err  error
}

// Binary returns the path of a linecard binary built from this source, one per test process. The race detector is in it when the
// environment variable LINECARD_RACE is set, the planted bugs when they are in the test. A test process that was started by another one
// is given its binary in LINECARD_BINARY.
func Binary(t testing.TB) string {
	t.Helper()
	if given := os.Getenv("LINECARD_BINARY"); given != "" {
		return given
	}
	build.once.Do(func() {
		dir, err := os.MkdirTemp("", "linecard-bin-")
		if err != nil {
			build.err = err
			return
		}
		build.path = filepath.Join(dir, "linecard")
		args := []string{"build", "-o", build.path}
		if os.Getenv("LINECARD_RACE") != "" {
			args = append(args, "-race")
		}
		if planted.Built {
			args = append(args, "-tags", "planted")
		}
		cmd := exec.Command("go", append(args, "linecard.example/cmd/linecard")...)
		if out, err := cmd.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatal("building linecard: ", build.err)
	}
	return build.path
}

// RemoveBinary removes what Binary built; a TestMain calls it at the end.
func RemoveBinary() {
	if build.path != "" {
		os.RemoveAll(filepath.Dir(build.path))
	}
}
