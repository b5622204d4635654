package testkit

import (
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestReadme executes every command of README.md's sh blocks, in order, in a copy of the tree with its own ports: `make up` in the
// background, the two chats with each other over pipes, the others to their end. `make test` is what runs this test: here it is
// only looked up in .ci/run.
func TestReadme(t *testing.T) {
	r := newReadme(t)
	for _, line := range r.commands {
		switch {
		case line == "make up":
			r.up(line)
		case line == "make test":
			r.inCI(line)
		case strings.Contains(line, " chat "):
			r.chat(line)
		case strings.HasSuffix(line, " cluster try"):
			r.try(line)
		case strings.HasPrefix(line, "curl "):
			r.curl(line)
		default:
			r.run(line)
		}
	}
	if len(r.chats) != 2 || r.system == nil || r.curls != 3 {
		t.Errorf("README.md has lost commands: %q", r.commands)
	}
	r.down()
}

// TestReadmeLinks: what the README points to is there.
func TestReadmeLinks(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	must(t, err)
	links := regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(string(text), -1)
	if len(links) < 5 {
		t.Errorf("%d links", len(links))
	}
	for _, l := range links {
		if _, err := os.Stat(filepath.Join("../..", l[1])); err != nil {
			t.Error(err)
		}
	}
}

// readme is a copy of the tree in which the commands run.
type readme struct {
	t        *testing.T
	dir      string
	admin    string
	commands []string
	system   *shell
	chats    []*shell
	curls    int
}

func newReadme(t *testing.T) *readme {
	r := &readme{t: t, dir: t.TempDir(), admin: FreeAddr(t)}
	listen := FreeAddr(t)
	ports := strings.NewReplacer("127.0.0.1:7400", listen, "127.0.0.1:7401", r.admin)
	copyTree(t, r.dir)
	for _, name := range []string{"README.md", "Makefile"} {
		path := filepath.Join(r.dir, name)
		text, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, []byte(ports.Replace(string(text))), 0o600))
	}
	text, err := os.ReadFile(filepath.Join(r.dir, "README.md"))
	must(t, err)
	r.commands = fenced(string(text), "sh")
	return r
}

// copyTree copies what a clone has to dir.
func copyTree(t *testing.T, dir string) {
	t.Helper()
	root := os.DirFS("../..")
	must(t, fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "data", "cluster", "testdata", "bench/out"}, path) || d.Name() == "testdata" || strings.HasPrefix(path, "home-") {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(dir, path), 0o700)
		}
		if !d.Type().IsRegular() || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, path), text, st.Mode().Perm())
	}))
}

// shell is a line of the README that runs in the background, in a process group of its own, as a terminal would run it.
type shell struct {
	line string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  tail
	done chan struct{}
}

func (r *readme) start(line string) *shell {
	r.t.Helper()
	s := &shell{line: line, cmd: exec.Command("sh", "-c", line), done: make(chan struct{})}
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr, s.cmd.SysProcAttr = r.dir, &s.out, &s.out, &syscall.SysProcAttr{Setpgid: true}
	s.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS") })
	var err error
	s.in, err = s.cmd.StdinPipe()
	must(r.t, err)
	must(r.t, s.cmd.Start())
	go func() {
		_ = s.cmd.Wait() // the state is read from cmd.ProcessState
		close(s.done)
	}()
	r.t.Cleanup(func() {
		s.signal(syscall.SIGKILL)
		<-s.done
		if r.t.Failed() {
			r.t.Logf("output of %s:\n%s", line, s.out.String())
		}
	})
	return s
}

// signal sends a signal to the whole group, as a terminal does, while its first process lives.
func (s *shell) signal(sig syscall.Signal) {
	select {
	case <-s.done:
	default:
		_ = syscall.Kill(-s.cmd.Process.Pid, sig)
	}
}

// says waits until the output has the text; a process that ends before fails the test.
func (r *readme) says(s *shell, text string) {
	r.t.Helper()
	for end := time.Now().Add(2 * waitLimit); ; time.Sleep(10 * time.Millisecond) { // another process: its output is looked at again
		ended := false
		select {
		case <-s.done:
			ended = true
		default:
		}
		switch {
		case strings.Contains(s.out.String(), text):
			return
		case ended || time.Now().After(end):
			r.t.Fatalf("%s: no %q (ended: %v)", s.line, text, ended)
		}
	}
}

// up builds and starts the system, and compares the lines to try next with those of the README.
func (r *readme) up(line string) {
	r.system = r.start(line)
	r.says(r.system, "Ctrl-C stops it")
	shown := regexp.MustCompile(`\s+`).ReplaceAllString(r.system.out.String(), " ")
	for _, c := range r.commands {
		if strings.Contains(c, " chat ") {
			c = strings.Replace(c, "--root data/", "--root "+filepath.Join(r.dir, "data")+"/", 1)
			if !strings.Contains(shown, c) {
				r.t.Errorf("up does not show %q", c)
			}
		}
	}
}

// inCI finds the command among those that .ci/run calls, word for word.
func (r *readme) inCI(line string) {
	text, err := os.ReadFile("../../.ci/run")
	must(r.t, err)
	if !regexp.MustCompile(`(?m)^step \S+ ` + regexp.QuoteMeta(line) + `$`).Match(text) {
		r.t.Errorf(".ci/run does not call %q", line)
	}
}

// chat starts a chat; the second one talks with the first.
func (r *readme) chat(line string) {
	c := r.start(line)
	r.says(c, "Connected as")
	if r.chats = append(r.chats, c); len(r.chats) < 2 {
		return
	}
	ann, bob := r.chats[0], r.chats[1]
	r.types(ann, "hello bob")
	r.says(bob, "ann: hello bob")
	r.types(bob, "hello ann")
	r.says(ann, "bob: hello ann")
	for _, c := range r.chats {
		r.types(c, "/quit")
		<-c.done
		if code := c.cmd.ProcessState.ExitCode(); code != 0 {
			r.t.Errorf("%s: exit %d", c.line, code)
		}
	}
}

func (r *readme) types(s *shell, line string) {
	r.t.Helper()
	_, err := io.WriteString(s.in, line+"\n")
	must(r.t, err)
}

// run runs a command to its end. What send sent must be what the recv behind it prints.
func (r *readme) run(line string) {
	s := r.start(line)
	<-s.done
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		r.t.Fatalf("%s: exit %d, %s", line, code, s.out.String())
	}
	if strings.Contains(line, " recv ") && !strings.Contains(line, "--count 0") && !strings.Contains(s.out.String(), `"from":"eve"`) {
		r.t.Errorf("%s: %s", line, s.out.String())
	}
}

// curl runs curl, or fetches the page without it.
func (r *readme) curl(line string) {
	r.curls++
	var out string
	if _, err := exec.LookPath("curl"); err == nil {
		s := r.start(line)
		<-s.done
		out = s.out.String()
	} else {
		resp, err := http.Get(line[strings.Index(line, "http://"):])
		must(r.t, err)
		defer resp.Body.Close()
		page, err := io.ReadAll(resp.Body)
		must(r.t, err)
		out = string(page)
	}
	// The metric is near the end: of a long page the last part is kept.
	if !strings.Contains(out, "\nlinecard_router_binds_total ") && !strings.Contains(out, `"ok":true`) {
		r.t.Errorf("%s: %.200s", line, out)
	}
}

// try starts three machines and presses Ctrl-C; what they do meanwhile is TestClusterTry's matter.
func (r *readme) try(line string) {
	s := r.start(line)
	r.says(s, "Ctrl-C stops it")
	s.signal(syscall.SIGINT)
	select {
	case <-s.done:
	case <-time.After(2 * waitLimit):
		r.t.Fatalf("%s does not end", line)
	}
	trialGone(r.t, filepath.Join(r.dir, "cluster")) // the shell ends by the signal, at once
}

// down presses Ctrl-C.
func (r *readme) down() {
	r.system.signal(syscall.SIGINT)
	select {
	case <-r.system.done:
	case <-time.After(waitLimit):
		r.t.Fatal("make up does not end")
	}
	// make ends when it wants; the system has ended when its admin listener has.
	Eventually(r.t, "the system ends", func() bool {
		resp, err := http.Get("http://" + r.admin + "/healthz")
		if err == nil {
			resp.Body.Close()
		}
		return err != nil
	})
}
