// Command gen writes the token and reason tables of package stanza from their lists.
//
// It reads tokens.txt and reasons.txt and writes tokens_gen.go and reasons_gen.go beside them. The output depends on nothing but
// the lists, so that `make generate` followed by git diff shows whether the committed files are current. It runs from the
// stanza folder (as `go generate` does), from the top of the repository, or with -dir from anywhere.
//
// File map: main.go (flags, files), lists.go (the two parsers), emit.go (the two writers). One goroutine.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("dir", defaultDir(), "folder of tokens.txt and reasons.txt; the Go files are written there")
	flag.Parse()
	if err := run(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// defaultDir is the working folder if the lists are there, else where they are seen from the top of the repository.
func defaultDir() string {
	if _, err := os.Stat("tokens.txt"); err == nil {
		return "."
	}
	return filepath.Join("internal", "stanza")
}

// run writes both generated files into dir.
func run(dir string) error {
	tokens, reasons, err := generate(dir)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "tokens_gen.go"), tokens, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "reasons_gen.go"), reasons, 0o644)
}

// generate returns the two files for the lists in dir, gofmt'ed.
func generate(dir string) (tokens, reasons []byte, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "tokens.txt"))
	if err != nil {
		return nil, nil, err
	}
	tl, err := parseTokens(string(text))
	if err != nil {
		return nil, nil, fmt.Errorf("tokens.txt: %w", err)
	}
	if text, err = os.ReadFile(filepath.Join(dir, "reasons.txt")); err != nil {
		return nil, nil, err
	}
	rl, err := parseReasons(string(text))
	if err != nil {
		return nil, nil, fmt.Errorf("reasons.txt: %w", err)
	}
	if tokens, err = emitTokens(tl); err != nil {
		return nil, nil, err
	}
	reasons, err = emitReasons(rl)
	return tokens, reasons, err
}
