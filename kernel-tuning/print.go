package tuning

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// files are the templates, each below the name that it has on the system.
//
//go:embed linux/files freebsd/files
var files embed.FS

// gatewayPort is the port that printed files assume.
const gatewayPort = 7400

// setting is a knob as a printed file sets it.
type setting struct{ Name, Value, Why string }

// Parameter is the name without the remark behind it that tells where linux has it.
func (s setting) Parameter() string {
	name, _, _ := strings.Cut(s.Name, " ")
	return name
}

// sheet is what the templates see.
type sheet struct {
	Command                 string // that printed the files
	Pair                    bool
	Sessions, Workers, Port int
	NoFile                  int64 // of a gateway process
	RelayFiles, MostFiles   int64 // of a turnd; of whatever process needs most
	Relay                   bool  // there is a turnd
	Sysctls, Boot, SysFiles []setting
}

// RelayPort and the others are the ports of a turnd that printed files assume.
func (*sheet) RelayPort() int    { return relayPort }
func (*sheet) RelayTLSPort() int { return relayTLSPort }
func (*sheet) RelayFirst() int   { return relayFirstPort }
func (*sheet) RelayLast() int    { return relayLastPort }

// Print writes the files with which a machine carries the target below dir, by the names that they have on the system, and returns
// those names. For the system that it runs on, or a root, nothing is lowered that somebody raised; a target with Memory and Cores is
// another machine, of which nothing is looked at, and nothing is lowered that systems come with. Files that are there are replaced.
func Print(t Target, dir string) ([]string, error) {
	sheet, err := newSheet(t)
	if err != nil {
		return nil, err
	}
	top := t.system() + "/files"
	var written []string
	err = fs.WalkDir(files, top, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := sheet.render(name)
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(name, top+"/")
		written = append(written, rel)
		return writeFile(filepath.Join(dir, rel), text)
	})
	if err != nil {
		return nil, fmt.Errorf("tuning: %w", err)
	}
	return written, nil
}

func writeFile(path string, text []byte) error {
	mode := fs.FileMode(0o644)
	if bytes.HasPrefix(text, []byte("#!")) {
		mode = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, text, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode) // a file that was there keeps its mode otherwise
}

func (s *sheet) render(name string) ([]byte, error) {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	t, err := template.New(name).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, s)
	return b.Bytes(), err
}

// newSheet computes what the templates need.
func newSheet(t Target) (*sheet, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	p := plan{Target: t, Page: 4096}
	p.OS = t.system()
	var h *host
	if t.Memory == 0 || t.Cores == 0 {
		var err error
		if h, err = open(t); err != nil {
			return nil, fmt.Errorf("%w; for another machine say its memory and its cores", err)
		}
		if p, err = h.fill(t); err != nil {
			return nil, err
		}
	}
	table, err := knobs(p.OS)
	if err != nil {
		return nil, err
	}
	s := &sheet{Command: command(t), Sessions: p.Sessions, Workers: p.workers(), Pair: p.Pair, Port: gatewayPort,
		NoFile: p.nofile(), RelayFiles: p.relayLimit(), MostFiles: p.mostFiles(), Relay: p.Allocations > 0}
	for _, k := range table {
		want := k.want(p)
		if want == "" || k.where == byHand || k.where == checkOnly {
			continue
		}
		if want, err = h.printed(k, p, want); err != nil {
			return nil, fmt.Errorf("tuning: %s: %w", k.Name, err)
		}
		s.add(k, want)
	}
	return s, nil
}

// printed is what a file says where want is wanted. h is nil for a machine that is not looked at.
func (h *host) printed(k Knob, p plan, want string) (string, error) {
	have, err := "", errAbsent
	if h != nil {
		have, err = h.read(k)
	}
	switch {
	case errors.Is(err, errAbsent) && k.comes != nil:
		return k.rule.merge(k.comes(p), want), nil
	case errors.Is(err, errAbsent):
		return want, nil
	case err != nil:
		return "", err
	case k.also != "" && have == k.also:
		return have, nil
	}
	return k.rule.merge(have, want), nil
}

func (s *sheet) add(k Knob, value string) {
	one := setting{Name: k.Name, Value: value, Why: firstSentence(k.Why) + "."}
	switch k.where {
	case bootSetting:
		s.Boot = append(s.Boot, one)
	case sysFile:
		s.SysFiles = append(s.SysFiles, one)
	default:
		s.Sysctls = append(s.Sysctls, one)
	}
}

// command is the command line that prints the same files.
func command(t Target) string {
	c := "linecard tune print --os " + t.system()
	if t.Sessions > 0 {
		c += fmt.Sprintf(" --sessions %d", t.Sessions)
	}
	if t.Allocations > 0 {
		c += fmt.Sprintf(" --allocations %d", t.Allocations)
	}
	if t.Workers > 0 {
		c += fmt.Sprintf(" --workers %d", t.Workers)
	}
	if t.Pair {
		c += " --pair"
	}
	if t.Memory > 0 && t.Cores > 0 {
		c += fmt.Sprintf(" --memory %dMiB --cores %d", t.Memory>>20, t.Cores)
	}
	return c
}
