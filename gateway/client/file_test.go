package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"linecard.example/gateway/client/media"
	"linecard.example/internal/stanza"
)

// mediaServer is as much of a mediad as these tests need: one upload at a time, in memory.
type mediaServer struct {
	*httptest.Server

	mu      sync.Mutex
	data    []byte
	length  int
	made    int
	offsets []string
	limit   int // PATCH takes so much and breaks the connection; 0 = all
	blobs   map[string][]byte
	ended   int // uploads deleted
}

func newMediaServer(t *testing.T) *mediaServer {
	m := &mediaServer{blobs: map[string][]byte{}}
	m.Server = httptest.NewServer(http.HandlerFunc(m.serve))
	t.Cleanup(m.Close)
	return m
}

func (m *mediaServer) serve(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name, isBlob := strings.CutPrefix(r.URL.Path, "/v1/blobs/")
	switch {
	case r.Header.Get("Authorization") != "Bearer AQID":
		w.WriteHeader(http.StatusUnauthorized)
	case isBlob:
		blob, ok := m.blobs[name]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		m.offsets = append(m.offsets, r.Header.Get("Range"))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
	case r.Method == http.MethodPost:
		m.made++
		m.data = nil
		m.length, _ = strconv.Atoi(r.Header.Get("Upload-Length"))
		w.Header().Set("Location", "/v1/uploads/x")
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodDelete:
		m.ended++
		w.WriteHeader(http.StatusNoContent)
	case m.made == 0:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPatch:
		m.offsets = append(m.offsets, r.Header.Get("Upload-Offset"))
		body := io.Reader(r.Body)
		if m.limit > 0 {
			body = io.LimitReader(body, int64(m.limit))
		}
		more, _ := io.ReadAll(body)
		m.data = append(m.data, more...)
		if len(m.data) < m.length {
			panic(http.ErrAbortHandler)
		}
		fallthrough
	default:
		w.Header().Set("Upload-Offset", strconv.Itoa(len(m.data)))
		w.Header().Set("Upload-Length", strconv.Itoa(m.length))
		if len(m.data) == m.length {
			sum := sha256.Sum256(m.data)
			m.blobs[hex.EncodeToString(sum[:])] = m.data
			w.Header().Set("Linecard-Blob", hex.EncodeToString(sum[:]))
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// serve binds the client that dials next, gives grants for m, acks messages and passes them on.
func (f *fake) serve(m *mediaServer) <-chan stanza.MessageUp {
	messages := make(chan stanza.MessageUp, 16)
	conn := f.bind()
	go func() {
		for {
			raw, ok := <-conn.stanzas
			if !ok {
				return
			}
			v, _, _ := stanza.Decode(raw)
			switch v.Tag {
			case stanza.TagQuery:
				q, _ := stanza.ParseQuery(v)
				conn.say(&stanza.Result{ID: q.ID, Expiry: time.Now().Add(time.Minute).UnixMilli(), Grant: []byte{1, 2, 3}, URL: []byte(m.URL)})
			case stanza.TagMessage:
				up, _ := stanza.ParseMessageUp(v)
				conn.say(ack(up.ID))
				messages <- up
			}
		}
	}()
	return messages
}

// pointerIn returns the pointer of a message's first ciphertext.
func pointerIn(t *testing.T, m stanza.MessageUp) *media.Pointer {
	t.Helper()
	_, cipher, _, err := stanza.NextCipher(m.Body)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePayload(cipher)
	if err != nil || p.file == nil {
		t.Fatalf("%+v, %v", p, err)
	}
	return p.file
}

// TestFilePayloadVector: the payload that vectors.py of package media has computed.
func TestFilePayloadVector(t *testing.T) {
	text, err := os.ReadFile("media/testdata/vectors.txt")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "\npayload ")
	digits, _, _ := strings.Cut(rest, "\n")
	want, err := hex.DecodeString(digits)
	must(t, err)
	p, err := parsePayload(want)
	if err != nil || p.from != "alice" || p.to != "bob" || p.file == nil || p.file.Name != "count.bin" || p.text != "zwanzig, fünf" {
		t.Fatalf("%+v, %v", p, err)
	}
	if got := appendPayload(nil, &p); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

func writeTemp(t *testing.T, size int) (path string, content []byte) {
	t.Helper()
	content = bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
	path = filepath.Join(t.TempDir(), "file.bin")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, content
}

func TestSendAndFetchFile(t *testing.T) {
	f, m := newFake(t), newMediaServer(t)
	c := f.start(func(o *Options) { knowsBob(o.Home) })
	defer c.Close()
	messages := f.serve(m)
	path, content := writeTemp(t, 200_000)
	var last int64
	s, err := c.SendFile(context.Background(), "bob", path, AboutFile{Type: "text/plain", Caption: "digits"}, func(done, _ int64) { last = done })
	if err != nil {
		t.Fatal(err)
	}
	acked(t, s)
	p := pointerIn(t, <-messages)
	if p.Name != "file.bin" || p.Type != "text/plain" || p.Caption != "digits" || p.Size != 200_000 || last != media.BlobSize(200_000) {
		t.Errorf("%+v, progress up to %d", p, last)
	}
	if left, err := c.FileUploads(); err != nil || len(left) != 0 {
		t.Errorf("%d uploads left, %v", len(left), err)
	}
	for _, blob := range m.blobs {
		if bytes.Contains(blob, []byte("0123456789")) {
			t.Error("the server can read the file")
		}
	}
	to := filepath.Join(t.TempDir(), "copy")
	if err := c.FetchFile(context.Background(), p, to, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(to)); len(entries) != 1 {
		t.Errorf("%d files beside it", len(entries)-1)
	}
	if err := c.FetchFile(context.Background(), p, to, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file that is there: %v", err)
	}
	r, err := c.OpenFile(context.Background(), p)
	b := make([]byte, 10)
	if err == nil {
		_, err = r.ReadAt(b, 150_000)
	}
	if err != nil || string(b) != "0123456789" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestFileGoesOnAfterRestart: upload and download go on in another client on the same home, where the one before was.
func TestFileGoesOnAfterRestart(t *testing.T) {
	f, m := newFake(t), newMediaServer(t)
	dir := t.TempDir()
	home := openHome(t, dir)
	knowsBob(home)
	transport := &media.Transport{Patience: time.Nanosecond} // one try a run
	open := func() *Client {
		o := f.options(home, "alice")
		o.Media = transport
		c, err := Start(o)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	path, content := writeTemp(t, 300_000)
	m.limit = 100_000
	c := open()
	f.serve(m)
	if _, err := c.SendFile(context.Background(), "bob", path, AboutFile{}, nil); err == nil {
		t.Fatal("the upload was not cut")
	}
	c.Close()
	must(t, home.Close())

	m.limit = 0
	home = openHome(t, dir)
	c = open()
	messages := f.serve(m)
	list, err := c.FileUploads()
	if err != nil || len(list) != 1 || list[0].To() != "bob" || list[0].Path() != path || list[0].Size() != 300_000 || list[0].Name() != "file.bin" {
		t.Fatalf("%+v, %v", list, err)
	}
	s, err := list[0].Send(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	acked(t, s)
	if m.made != 1 || strings.Join(m.offsets, " ") != "0 100000" {
		t.Errorf("%d uploads, offsets %q", m.made, m.offsets)
	}
	p := pointerIn(t, <-messages)

	msg := &Message{From: bobAccount, FromDevice: 1, ID: 7, SentAt: time.Now(), File: p}
	got, err := c.RememberFile(msg, "bob")
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy")
	ctx, cancel := context.WithCancel(context.Background())
	err = got.Save(ctx, to, func(done, _ int64) {
		if done == 2*media.ChunkSize {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	c.Close()
	must(t, home.Close())

	home = openHome(t, dir)
	defer home.Close()
	c = open()
	defer c.Close()
	f.serve(m)
	files, err := c.ReceivedFiles()
	if err != nil || len(files) != 1 || files[0].Path() != to || files[0].From() != "bob" || files[0].Pointer().Blob != p.Blob {
		t.Fatalf("%+v, %v", files, err)
	}
	m.offsets = nil
	if err := files[0].Save(context.Background(), files[0].Path(), nil); err != nil {
		t.Fatal(err)
	}
	if back, err := os.ReadFile(to); err != nil || !bytes.Equal(back, content) || strings.Join(m.offsets, " ") != "bytes=131136-300159" {
		t.Errorf("%d bytes, %v, ranges %q", len(back), err, m.offsets)
	}
	if files, err = c.ReceivedFiles(); err != nil || len(files) != 0 {
		t.Errorf("%d files remembered, %v", len(files), err)
	}
}

// TestFileIsToldOnce: a process that was killed between the message and the note that it is done does not send a second message.
func TestFileIsToldOnce(t *testing.T) {
	f, m := newFake(t), newMediaServer(t)
	home := MemoryHome()
	c := f.start(func(o *Options) { o.Home = home; knowsBob(home) })
	defer c.Close()
	conn := f.bind()
	go func() { // grants, and no acks
		for raw := range conn.stanzas {
			if v, _, _ := stanza.Decode(raw); v.Tag == stanza.TagQuery {
				q, _ := stanza.ParseQuery(v)
				conn.say(&stanza.Result{ID: q.ID, Expiry: 1, Grant: []byte{1, 2, 3}, URL: []byte(m.URL)})
			}
		}
	}()
	path, _ := writeTemp(t, 1000)
	u, err := c.NewFileUpload(context.Background(), "bob", path, AboutFile{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := u.Send(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	again := &FileUpload{c: c, name: u.name, rec: u.rec} // as its item would be read
	second, err := again.Send(context.Background(), nil)
	if err != nil || second.ID != first.ID || home.Unacked() != 1 {
		t.Errorf("%v, messages %d and %d, %d unacked", err, first.ID, second.ID, home.Unacked())
	}
}

func TestFileTrouble(t *testing.T) {
	f, m := newFake(t), newMediaServer(t)
	c := f.start(func(o *Options) { knowsBob(o.Home); o.Media = &media.Transport{Patience: time.Nanosecond} })
	defer c.Close()
	f.serve(m)
	path, _ := writeTemp(t, 200_000)
	ctx := context.Background()
	if _, err := c.NewFileUpload(ctx, "bob", filepath.Dir(path), AboutFile{}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := c.NewFileUpload(ctx, "bob", path, AboutFile{Thumbnail: make([]byte, media.MaxThumbnail+1)}); !errors.Is(err, media.ErrPointer) {
		t.Errorf("a large thumbnail: %v", err)
	}
	m.limit = 100_000
	u, err := c.NewFileUpload(ctx, "bob", path, AboutFile{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Send(ctx, nil); err == nil {
		t.Fatal("the upload was not cut")
	}
	must(t, os.WriteFile(path, make([]byte, 200_000), 0o600))
	if _, err := u.Send(ctx, nil); !errors.Is(err, media.ErrChanged) {
		t.Errorf("a file that has changed: %v", err)
	}
	if left, err := c.FileUploads(); err != nil || len(left) != 0 || m.ended != 1 || len(m.data) != 100_000 {
		t.Errorf("%d uploads left, %v, %d ended, %d bytes at the server", len(left), err, m.ended, len(m.data))
	}
	for range maxUploads {
		if _, err := c.NewFileUpload(ctx, "bob", path, AboutFile{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.NewFileUpload(ctx, "bob", path, AboutFile{}); !errors.Is(err, ErrTooManyFiles) {
		t.Errorf("one more: %v", err)
	}
	if _, err := c.RememberFile(&Message{Text: "no file"}, "bob"); err == nil {
		t.Error("a text is remembered as a file")
	}
}

// TestDamagedItem: what a disk did to one file's item costs that file and nothing else.
func TestDamagedItem(t *testing.T) {
	f, m := newFake(t), newMediaServer(t)
	dir := t.TempDir()
	home := openHome(t, dir)
	defer home.Close()
	knowsBob(home)
	c := f.start(func(o *Options) { o.Home = home })
	defer c.Close()
	f.serve(m)
	path, _ := writeTemp(t, 10)
	for range 3 {
		if _, err := c.NewFileUpload(context.Background(), "bob", path, AboutFile{}); err != nil {
			t.Fatal(err)
		}
	}
	names, err := home.items(uploadPrefix)
	must(t, err)
	must(t, os.WriteFile(home.itemPath(names[0]), []byte("{"), 0o600))
	must(t, os.WriteFile(home.itemPath(names[1]), []byte(`{"plan":{"Size":-1}}`), 0o600))
	if list, err := c.FileUploads(); err != nil || len(list) != 1 || list[0].name != names[2] {
		t.Errorf("%d uploads, %v", len(list), err)
	}
	if names, _ = home.items(uploadPrefix); len(names) != 1 {
		t.Errorf("items %q", names)
	}
}
