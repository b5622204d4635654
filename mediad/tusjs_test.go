package mediad

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tusScript is a program that uploads with tus-js-client; `npm ci --ignore-scripts` beside it installs that.
const tusScript = "testdata/tus/interop.js"

// jsLine is a line that the program writes.
type jsLine struct {
	Step, Blob, URL, Error string
	Sent                   int64
	Requests               []struct {
		Method, Offset string
		Status         int
	}
}

// runJS runs a scenario; step is told each line but the last, which is returned.
func runJS(t *testing.T, s *site, scenario, file string, step func(jsLine)) (end jsLine) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", tusScript, scenario, s.url+uploadsPath, s.uploadGrant(1<<30), file)
	cmd.WaitDelay = time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	mustDo(t, err)
	mustDo(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var l jsLine
		mustDo(t, json.Unmarshal(lines.Bytes(), &l))
		if end = l; step != nil {
			step(l)
		}
	}
	if err := cmd.Wait(); err != nil || end.Step != "end" {
		t.Fatalf("%s: %v, %+v\n%s", scenario, err, end, said.String())
	}
	return end
}

// noNode says why there is nothing to run tus-js-client with, "" when there is.
func noNode() string {
	if _, err := exec.LookPath("node"); err != nil {
		return "node is not installed"
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(tusScript), "node_modules", "tus-js-client", "package.json")); err != nil {
		return "tus-js-client is not installed: npm ci --ignore-scripts in mediad/testdata/tus, or make interop"
	}
	return ""
}

// TestTusJS: the tus client of the web's pages uploads, resumes and terminates with nothing but a pre-signed URL, and finds its upload
// again after the server was restarted in the middle. LINECARD_INTEROP=1, as in CI, makes it fail where it cannot run.
func TestTusJS(t *testing.T) {
	if why := noNode(); why != "" {
		if os.Getenv("LINECARD_INTEROP") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	data := bytesOf(9, 1<<20+12345)
	want := blobHash(sha256.Sum256(data)).String()
	for scenario, methods := range map[string]string{
		"pre-signed": "POST PATCH PATCH PATCH PATCH PATCH", "header": "POST PATCH PATCH PATCH PATCH PATCH",
		"with creation": "POST PATCH PATCH PATCH PATCH", "override": "POST POST POST POST POST POST", "whole": "POST PATCH",
		"resume": "POST PATCH HEAD PATCH PATCH PATCH PATCH", "terminate": "POST PATCH DELETE",
	} {
		t.Run(scenario, func(t *testing.T) {
			s := newSite(t)
			file := filepath.Join(t.TempDir(), "file")
			mustDo(t, os.WriteFile(file, data, 0o600))
			end := runJS(t, s, scenario, file, nil)
			var did []string
			for _, r := range end.Requests {
				if did = append(did, r.Method); r.Status >= 300 {
					t.Errorf("%+v", r)
				}
			}
			if got := strings.Join(did, " "); got != methods {
				t.Errorf("requests %s, want %s", got, methods)
			}
			if scenario == "terminate" {
				s.nothingStaged(0)
				return
			}
			if end.Blob != want {
				t.Errorf("blob %q, want %s", end.Blob, want)
			}
		})
	}
	t.Run("restart", func(t *testing.T) { testTusJSRestart(t, data, want) })
}

// testTusJSRestart ends the server after the first chunk, and starts another one in its place.
func testTusJSRestart(t *testing.T, data []byte, want string) {
	dir := t.TempDir()
	s := newSiteAt(t, dir, func(c *Config) { c.Drain = 0 })
	addr := s.Addr().String()
	file := filepath.Join(t.TempDir(), "file")
	mustDo(t, os.WriteFile(file, data, 0o600))
	restarted := false
	end := runJS(t, s, "restart", file, func(l jsLine) {
		if restarted || l.Step != "chunk" {
			return
		}
		restarted = true
		mustDo(t, s.stop())
		newSiteAt(t, dir, func(c *Config) { c.Listen = addr })
	})
	if !restarted || end.Blob != want {
		t.Errorf("restarted %t, blob %q, want %s", restarted, end.Blob, want)
	}
}

// TestCurl: curl uploads a file and fetches it with pre-signed URLs, in ranges, and goes on with a download that was cut.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv("LINECARD_INTEROP") != "" {
			t.Fatal("curl is not installed")
		}
		t.Skip("curl is not installed; with LINECARD_INTEROP=1, as in CI, that fails")
	}
	for _, scheme := range []string{"http", "https"} {
		s := newSite(t, withTLS(t, scheme == "https"))
		dir := t.TempDir()
		file := func(name string) string { return filepath.Join(dir, name) }
		run := func(args ...string) string {
			t.Helper()
			cmd := exec.CommandContext(t.Context(), curl, append([]string{"-sS", "--insecure", "--fail-with-body", "--max-time", "60"}, args...)...)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("curl %v: %v\n%s", args, err, out)
			}
			return string(out)
		}
		data := bytesOf(10, 3<<20+7)
		mustDo(t, os.WriteFile(file("up"), data, 0o600))
		var got stored
		mustDo(t, json.Unmarshal([]byte(run("-T", file("up"), s.url+"/v1/blobs?grant="+s.uploadGrant(1<<30))), &got))
		h, _ := parseHash(got.Blob)
		if h != blobHash(sha256.Sum256(data)) {
			t.Fatalf("%s: %+v", scheme, got)
		}
		url := s.url + "/v1/blobs/" + got.Blob + "?grant=" + s.downloadGrant(h)
		mustDo(t, os.WriteFile(file("down"), data[:1<<20], 0o600)) // what is there of it
		run("-C", "-", "-o", file("down"), url)
		down, err := os.ReadFile(file("down"))
		if mustDo(t, err); !bytes.Equal(down, data) {
			t.Errorf("%s: %d bytes came, of other content", scheme, len(down))
		}
		if part := run("-r", "100-199", "-H", "Authorization: Bearer "+s.downloadGrant(h), s.url+"/v1/blobs/"+got.Blob); part != string(data[100:200]) {
			t.Errorf("%s: a range of %d bytes", scheme, len(part))
		}
	}
}
