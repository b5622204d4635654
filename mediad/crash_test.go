package mediad

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"linecard.example/internal/stanza"
)

// shadow is a file system of which is known what is durable: what was synced, names by their folder. It is told each step, and makes a
// directory as it may be found after the process or the power went.
type shadow struct {
	root         string
	now, durable map[string]*inode // by path below root
}

type inode struct {
	folder       bool
	now, durable []byte
}

func newShadow(root string) *shadow {
	return &shadow{root: root, now: map[string]*inode{}, durable: map[string]*inode{}}
}

// step is one that files.step was told.
type step struct {
	op, path string
	off      int64
	p        []byte
}

func (s *shadow) rel(path string) string { return strings.TrimPrefix(path, s.root+"/") }

func (s *shadow) apply(st step) {
	path := s.rel(st.path)
	to := path
	if st.op == "rename" {
		to = s.rel(string(st.p))
	}
	if parent := filepath.Dir(to); st.op != "syncdir" && parent != "." && s.now[parent] == nil {
		return // it failed: there is no such folder
	}
	switch st.op {
	case "create":
		s.now[path] = &inode{}
	case "mark":
		if s.now[path] == nil {
			s.now[path] = &inode{}
		}
	case "mkdir":
		if s.now[path] == nil {
			s.now[path] = &inode{folder: true}
		}
	case "write":
		n := s.now[path]
		if short := int(st.off) + len(st.p) - len(n.now); short > 0 {
			n.now = append(n.now, make([]byte, short)...)
		}
		copy(n.now[st.off:], st.p)
	case "cut":
		s.now[path].now = s.now[path].now[:st.off:st.off]
	case "sync":
		s.now[path].durable = bytes.Clone(s.now[path].now)
	case "rename":
		s.now[to] = s.now[path]
		delete(s.now, path)
	case "remove":
		delete(s.now, path)
	case "syncdir":
		for _, from := range []map[string]*inode{s.now, s.durable} {
			for name := range from {
				if filepath.Dir(filepath.Join(s.root, name)) != st.path {
					continue
				}
				if n := s.now[name]; n != nil {
					s.durable[name] = n
				} else {
					delete(s.durable, name)
				}
			}
		}
	default:
		panic(st.op)
	}
}

// killed is what is there when the process ends: all that it did.
func (s *shadow) killed() map[string][]byte {
	tree := map[string][]byte{}
	for name, n := range s.now {
		tree[name] = append([]byte{}, n.now...)
		if n.folder {
			tree[name] = nil
		}
	}
	return tree
}

// dark is what is there after a power cut: what was synced, and of the rest what r chooses; nil chooses nothing. A rename is done or
// not: file systems with a journal promise that.
func (s *shadow) dark(r *rand.Rand) map[string]*inode {
	pick := func() bool { return r != nil && r.IntN(2) == 0 }
	tree := map[string]*inode{}
	placed := map[*inode]bool{}
	var names []string
	for name := range s.now {
		names = append(names, name)
	}
	for name := range s.durable {
		if s.now[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names) // so that a seed says all
	for _, name := range names {
		was, is := s.durable[name], s.now[name]
		if is != was && pick() {
			was = is
		}
		if was != nil {
			tree[name], placed[was] = was, true
		}
	}
	for _, name := range names {
		if was := s.durable[name]; was != nil && !placed[was] && s.now[name] != was {
			if slices.ContainsFunc(names, func(other string) bool { return s.now[other] == was }) {
				tree[name] = was // renamed, and neither name was chosen
			}
		}
	}
	return tree
}

// lay writes a tree below dir.
func lay(t testing.TB, dir string, tree map[string][]byte) {
	t.Helper()
	mustDo(t, os.RemoveAll(dir))
	mustDo(t, os.MkdirAll(dir, 0o700))
	var names []string
	for name := range tree {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		path := filepath.Join(dir, name)
		if tree[name] == nil {
			mustDo(t, os.MkdirAll(path, 0o700))
			continue
		}
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			continue // its folder is not there after the cut
		}
		mustDo(t, os.WriteFile(path, tree[name], 0o600))
	}
}

// bytesAfter turns inodes into what their files hold after a power cut.
func bytesAfter(tree map[string]*inode, r *rand.Rand) map[string][]byte {
	out := map[string][]byte{}
	var names []string
	for name := range tree {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n := tree[name]
		if n.folder {
			out[name] = nil
			continue
		}
		b := bytes.Clone(n.durable)
		if r != nil && r.IntN(2) == 0 { // some of what was not synced is there, up to some byte
			k := r.IntN(len(n.now) + 1)
			b = append(bytes.Clone(n.now[:k]), b[min(k, len(b)):]...)
		}
		out[name] = append([]byte{}, b...)
	}
	return out
}

// promise is what was told at some time: that an upload is at an offset, that a blob is there for an account, or that it is not.
type promise struct {
	after   int // steps that were done when it was made
	void    int // steps after which it does not hold any more; 0: it holds
	id      string
	account stanza.Account
	bytes   []byte // of the whole
	offset  int64  // durable
	stored  bool
	ended   bool
}

// story is a run of the store with each step and each promise.
type story struct {
	t        testing.TB
	dir      string
	d        *depot
	steps    []step
	promises []*promise
}

const crashEvery = 1000

func newStory(t testing.TB) *story {
	s := &story{t: t, dir: t.TempDir()}
	o := testOptions(s.dir, newClock())
	o.files.step = func(op, path string, off int64, p []byte) error {
		s.steps = append(s.steps, step{op, path, off, bytes.Clone(p)})
		return nil
	}
	s.d = openTest(t, o)
	s.d.uploads.every, s.d.uploads.random = crashEvery, rand.NewChaCha8([32]byte{}) // the same names each time
	return s
}

func (s *story) promise(p promise) *promise {
	p.after = len(s.steps)
	s.promises = append(s.promises, &p)
	return &p
}

func (s *story) void(p *promise) { p.void = len(s.steps) + 1 }

// create begins an upload, and promises that it is there.
func (s *story) create(a stanza.Account, b []byte) (*upload, *promise) {
	x, err := s.d.uploads.create(a, int64(len(b)), []byte("m"))
	mustDo(s.t, err)
	return x, s.promise(promise{id: x.id, account: a, bytes: b})
}

// write goes on with an upload, and promises what it says is durable.
func (s *story) write(x *upload, p *promise, n int) {
	mustDo(s.t, x.write(p.bytes[x.offset:x.offset+int64(n)]))
	s.promise(promise{id: x.id, account: p.account, bytes: p.bytes, offset: x.rec.offset})
}

func (s *story) pause(x *upload, p *promise) *upload {
	mustDo(s.t, x.close())
	s.promise(promise{id: x.id, account: p.account, bytes: p.bytes, offset: x.rec.offset})
	x, err := s.d.uploads.open(s.t.Context(), x.id, p.account, nil)
	mustDo(s.t, err)
	return x
}

func (s *story) finish(x *upload, b []byte) *promise {
	_, err := x.finish(s.t.Context())
	mustDo(s.t, err)
	p := s.promise(promise{account: x.account(), bytes: b, stored: true})
	mustDo(s.t, x.close())
	return p
}

func (s *story) put(a stanza.Account, b []byte) *promise {
	x, err := s.d.uploads.stage(a, int64(len(b)))
	mustDo(s.t, err)
	mustDo(s.t, x.write(b))
	return s.finish(x, b)
}

func (s *story) end(p *promise) {
	s.void(p)
	mustDo(s.t, s.d.end(s.t.Context(), hashOf(p.bytes), p.account))
	s.promise(promise{account: p.account, bytes: p.bytes, ended: true})
}

// tell is all that a store does, once.
func tell(t testing.TB) *story {
	s := newStory(t)
	one, two, three := bytesOf(1, 2500), bytesOf(2, 3700), bytesOf(3, 4000)
	first := s.put(7, one)
	x, p := s.create(7, two)
	s.write(x, p, 1500)
	x = s.pause(x, p)
	s.write(x, p, 700)
	y, q := s.create(8, three)
	s.write(y, q, 3999)
	s.write(x, p, 1500)
	s.finish(x, two)
	again := s.put(8, two) // the same bytes of another account
	s.end(first)           // the last reference
	s.end(again)           // not the last one
	mustDo(t, y.mark())
	mustDo(t, y.write([]byte{1}))
	mustDo(t, y.rollback())
	s.pause(y, q).close()
	s.d.tidy(t.Context())
	z, r := s.create(9, one)
	s.write(z, r, 1100)
	for _, p := range s.promises {
		if p.id == z.id {
			s.void(p)
		}
	}
	mustDo(t, z.remove())
	s.put(9, nil) // an empty one
	return s
}

func hashOf(b []byte) blobHash {
	x := newUpload(nil, "")
	x.rec.phase = phaseOpen
	x.sum.Write(b)
	return x.hash()
}

// judge opens what a crash left behind n steps, and holds it against what was promised.
func (s *story) judge(t *testing.T, dir string, n int) {
	t.Helper()
	o := testOptions(dir, newClock())
	d := openTest(t, o)
	d.lock.Close()
	if out, err := check(t, dir, false); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d = openTest(t, o)
	d.uploads.every = crashEvery
	refs := map[reference]bool{}
	mustDo(t, d.blobs.references(t.Context(), func(r reference) error {
		refs[r] = true
		return nil
	}))
	for _, p := range s.promises {
		if p.after > n || p.void != 0 && p.void <= n+1 {
			continue
		}
		r := reference{hashOf(p.bytes), p.account, int64(len(p.bytes))}
		switch {
		case p.ended:
			if refs[r] && !s.storedLater(p, n) {
				t.Fatalf("%s of account %d was ended, and is there", r.hash, p.account)
			}
		case p.stored:
			wantBlob(t, d, r.hash, p.bytes)
			if !refs[r] {
				t.Fatalf("no reference %s", r.name())
			}
		default:
			s.goOn(t, d, p)
		}
	}
	d.lock.Close()
	if out, err := check(t, dir, false); err != nil {
		t.Fatalf("after going on: %v\n%s", err, out)
	}
}

// storedLater says that an account has the blob again.
func (s *story) storedLater(p *promise, n int) bool {
	return slices.ContainsFunc(s.promises, func(q *promise) bool {
		return q.stored && q.after > p.after && q.account == p.account && bytes.Equal(q.bytes, p.bytes)
	})
}

// goOn finishes an upload from where it is, which must be behind what was said to be durable.
func (s *story) goOn(t *testing.T, d *depot, p *promise) {
	t.Helper()
	x, err := d.uploads.open(t.Context(), p.id, p.account, nil)
	mustDo(t, err)
	defer x.close()
	if x.position() < p.offset {
		t.Fatalf("upload resumes at %d, %d were durable", x.position(), p.offset)
	}
	if x.data != nil {
		got := make([]byte, x.position())
		if _, err := io.ReadFull(io.NewSectionReader(x.data, 0, x.position()), got); err != nil || !bytes.Equal(got, p.bytes[:len(got)]) {
			t.Fatalf("the first %d bytes are not those that were sent: %v", len(got), err)
		}
	}
	if !x.complete() {
		mustDo(t, x.write(p.bytes[x.position():]))
	}
	h, err := x.finish(t.Context())
	mustDo(t, err)
	wantBlob(t, d, h, p.bytes)
}

// TestCrashAtEachStep cuts the process off behind each step, and in the middle of each write, and the power.
func TestCrashAtEachStep(t *testing.T) {
	s := tell(t)
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	dir := filepath.Join(t.TempDir(), "after")
	for n := range len(s.steps) + 1 {
		sh := newShadow(s.dir)
		for _, st := range s.steps[:n] {
			sh.apply(st)
		}
		what := "the end"
		if n < len(s.steps) {
			what = fmt.Sprintf("%s %s %d", s.steps[n].op, sh.rel(s.steps[n].path), s.steps[n].off)
		}
		ok := t.Run(fmt.Sprintf("killed before step %d: %s", n, what), func(t *testing.T) {
			lay(t, dir, sh.killed())
			s.judge(t, dir, n)
		})
		ok = ok && t.Run(fmt.Sprintf("dark before step %d: %s", n, what), func(t *testing.T) {
			lay(t, dir, bytesAfter(sh.dark(nil), nil))
			s.judge(t, dir, n)
		})
		for seed := range uint64(rounds) {
			ok = ok && t.Run(fmt.Sprintf("some of it before step %d: %s, seed %d", n, what, seed), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, uint64(n)))
				lay(t, dir, bytesAfter(sh.dark(r), r))
				s.judge(t, dir, n)
			})
		}
		if n < len(s.steps) && s.steps[n].op == "write" {
			torn := s.steps[n]
			torn.p = torn.p[:len(torn.p)/2]
			sh.apply(torn)
			ok = ok && t.Run(fmt.Sprintf("killed in step %d: %s", n, what), func(t *testing.T) {
				lay(t, dir, sh.killed())
				s.judge(t, dir, n)
			})
		}
		if !ok {
			return // the rest fails for the same reason
		}
	}
	t.Logf("%d steps, %d promises", len(s.steps), len(s.promises))
}
