package testkit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linecard.example/gateway/client/media"
)

// The tests of this file send files from one real client process to another through `linecard up`, over a path to its media that can be
// slow and breaks.

const fileSize = 20<<20 + 12_345

// mediaSystem starts a system whose clients reach its media over the path.
func mediaSystem(t *testing.T) (*System, *Path) {
	t.Helper()
	addr := FreeAddr(t)
	path := NewPath(t, addr)
	s := Start(t, Together, Settings{
		Media:   fmt.Sprintf("listen = %q\n", addr),
		Gateway: fmt.Sprintf("media_url = \"http://%s\"\n", path.Addr),
	})
	return s, path
}

// writeNoise writes a file that nothing compresses, and returns its hash.
func writeNoise(t *testing.T, path string, size int) [sha256.Size]byte {
	t.Helper()
	var seed [32]byte
	copy(seed[:], t.Name())
	content := make([]byte, size)
	rand.NewChaCha8(seed).Read(content)
	must(t, os.WriteFile(path, content, 0o600))
	return sha256.Sum256(content)
}

func hashOf(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return sha256.Sum256(b)
}

// chatting is a running `linecard chat` over pipes.
type chatting struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out tail
}

func (s *System) chat(t *testing.T, name, to string) *chatting {
	t.Helper()
	c := &chatting{t: t, cmd: exec.Command(Binary(t), "chat", "--home", filepath.Join(s.Dir, "home-"+name), "--server", s.Server, "--as", name, "--to", to, "--root", s.Root)}
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = s.Dir, &c.out, &c.out
	var err error
	c.in, err = c.cmd.StdinPipe()
	must(t, err)
	must(t, c.cmd.Start())
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("%s saw:\n%s", name, c.out.String())
		}
	})
	return c
}

func (c *chatting) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

func (c *chatting) types(line string) {
	_, err := io.WriteString(c.in, line+"\n")
	must(c.t, err)
}

func (c *chatting) sees(text string) {
	c.t.Helper()
	Eventually(c.t, "a chat that shows "+text, func() bool { return strings.Contains(c.out.String(), text) })
}

// quits ends the chat in order.
func (c *chatting) quits() {
	c.t.Helper()
	c.types("/quit")
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("chat: %v", err)
	}
}

// received returns how many bytes of uploads the system has taken in.
func (s *System) received() float64 {
	return s.Metrics("up").Sum("linecard_mediad_received_bytes_total")
}

// sizeOf returns the length of the one file that the pattern matches; 0 while there is none.
func sizeOf(t *testing.T, pattern string) int64 {
	t.Helper()
	found, err := filepath.Glob(pattern)
	must(t, err)
	if len(found) == 0 {
		return 0
	}
	info, err := os.Stat(found[0])
	if err != nil {
		return 0 // it has its name by now
	}
	return info.Size()
}

// TestFileFromChatToChat: 20 MB from chat to chat. The sender is killed and its connection broken in the middle of the upload, the
// receiver likewise in the middle of the download, and each goes on where it was.
func TestFileFromChatToChat(t *testing.T) {
	s, path := mediaSystem(t)
	from := filepath.Join(s.Dir, "film.bin")
	want := writeNoise(t, from, fileSize)
	bob := s.chat(t, "bob", "")
	bob.sees("Connected as bob")
	ann := s.chat(t, "ann", "bob")
	ann.sees("Connected as ann")

	path.Slow(200*time.Millisecond, 0)
	ann.types("/file " + from)
	Eventually(t, "a quarter of the upload", func() bool { return s.received() > fileSize/4 })
	ann.kill()
	ann = s.chat(t, "ann", "bob")
	ann.sees("going on to send film.bin")
	Eventually(t, "half of the upload", func() bool { return s.received() > fileSize/2 })
	path.Reset()
	ann.sees("✓ stored  file film.bin")
	if got, blob := s.received(), float64(media.BlobSize(fileSize)); got < blob || got > blob+1<<20 {
		t.Errorf("%.0f bytes came in of a blob of %.0f", got, blob)
	}
	ann.quits()

	bob.sees("/save 1")
	to := filepath.Join(s.Dir, "got.bin")
	part := filepath.Join(s.Dir, ".*.part")
	bob.types("/save 1 " + to)
	Eventually(t, "a quarter of the download", func() bool { return sizeOf(t, part) > fileSize/4 })
	bob.kill()
	had := sizeOf(t, part)
	if had >= fileSize {
		t.Fatalf("nothing is left to fetch of %d bytes", had)
	}
	bob = s.chat(t, "bob", "")
	broken := false
	Eventually(t, "the file", func() bool {
		now := sizeOf(t, part)
		if now > 0 && now < had-media.ChunkSize {
			t.Fatalf("%d bytes are left of %d", now, had)
		}
		if now > fileSize/4*3 && !broken {
			broken = true
			path.Reset()
		}
		_, err := os.Stat(to)
		return err == nil
	})
	if !broken {
		t.Error("the download was over before its connection broke")
	}
	bob.sees("saved and verified: " + to)
	if hashOf(t, to) != want {
		t.Error("another file arrived")
	}
	if left, _ := filepath.Glob(part); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
	bob.quits()
}

// TestFileByScripts: send --file and recv --files, and what a byte that the server's disk has altered comes to.
func TestFileByScripts(t *testing.T) {
	s, _ := mediaSystem(t)
	from := filepath.Join(s.Dir, "photo.jpg")
	want := writeNoise(t, from, 3<<20)
	as := func(name string, args ...string) []string {
		return append(args, "--home", filepath.Join(s.Dir, "home-"+name), "--server", s.Server, "--as", name, "--root", s.Root)
	}
	if out, code := s.Run(as("bob", "recv", "--count", "0")...); code != 0 {
		t.Fatalf("exit %d, %s", code, out)
	}
	for _, caption := range []string{"first", "second"} {
		out, code := s.Run(as("ann", "send", "--to", "bob", "--file", from, caption)...)
		if code != 0 || !strings.Contains(out, `"state":"acked"`) || !strings.Contains(out, `"file":"photo.jpg"`) {
			t.Fatalf("exit %d, %s", code, out)
		}
	}
	blobs := blobsOn(t, s.Dir)
	if len(blobs) != 2 {
		t.Fatalf("%d blobs of two files under two keys", len(blobs))
	}
	for _, path := range blobs {
		if b, err := os.ReadFile(path); err != nil || bytes.Contains(b, []byte("photo.jpg")) {
			t.Errorf("%v, or the server has the name", err)
		}
	}
	dir := filepath.Join(s.Dir, "got")
	must(t, os.Mkdir(dir, 0o700))
	out, code := s.Run(as("bob", "recv", "--files", dir)...)
	line := fileLine(t, out)
	if code != 0 || line.Text != "first" || line.File.Type != "image/jpeg" || line.File.Path != filepath.Join(dir, "photo.jpg") || hashOf(t, line.File.Path) != want {
		t.Fatalf("exit %d, %s", code, out)
	}

	for _, path := range blobs { // one of them is the second's
		b, err := os.ReadFile(path)
		must(t, err)
		b[len(b)/2] ^= 4
		must(t, os.Chmod(path, 0o600))
		must(t, os.WriteFile(path, b, 0o600))
	}
	out, code = s.Run(as("bob", "recv", "--files", dir)...)
	line = fileLine(t, out)
	if code != 1 || line.Text != "second" || line.File.Path != "" || !strings.Contains(line.File.Error, "damaged") {
		t.Errorf("exit %d, %s", code, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "photo (2).jpg")); err == nil {
		t.Error("a damaged file was saved")
	}
}

// printedFile is what recv prints of a file.
type printedFile struct {
	Text string
	File struct{ Type, Path, Error string }
}

func fileLine(t *testing.T, out string) (line printedFile) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &line); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return line
}

// blobsOn returns the paths of the blobs that a system has on disk.
func blobsOn(t *testing.T, dir string) (paths []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(path, "/mediad/blobs/") {
			paths = append(paths, path)
		}
		return err
	}))
	return paths
}
