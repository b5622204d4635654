package archtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const outsideMain = `package main

import (
	"context"
	"fmt"

	"linecard.example/gateway/client"
)

func main() {
	_, err := client.Open(context.Background(), client.Options{})
	fmt.Println(err)
}
`

// TestOutsideModule builds a module of somebody else's that uses the client package through a replace directive.
func TestOutsideModule(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	// The requirements are copied so that the build needs no network and no tidy.
	text := "module outside.example\n" + string(mod[len("module linecard.example\n"):]) +
		"\nrequire linecard.example v0.0.0\n\nreplace linecard.example => " + root + "\n"
	for name, content := range map[string]string{"go.mod": text, "go.sum": string(sum), "main.go": outsideMain} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-mod=mod", "-o", filepath.Join(dir, "outside"), ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
