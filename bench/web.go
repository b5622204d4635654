package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"linecard.example/bench/meter"
)

// webServer is a server of files under measurement.
type webServer struct {
	key, name string // of figures; for readers
	client    *http.Client
	root      func() int // the process that all its processes descend from

	putURL, getURL func(f *webFile) (string, error)
	taken          func(f *webFile, answer []byte) error // learns from the answer to a PUT where the file is; nil: it is known
	remove         func(ctx context.Context, f *webFile) error
	closeServer    func() error // nil: nothing to do
}

// webFile is a file of size bytes that differs from every one with another number.
type webFile struct {
	number uint64
	size   int64
	where  string // what its server calls it, once it was put

	mu  sync.Mutex
	url string // to get it, once it was asked for
}

// filler is what files consist of behind their numbers.
var filler = bytes.Repeat([]byte("0123456789abcde\n"), 64<<10/16)

// body returns the content of a file.
func (f *webFile) body() io.Reader {
	head := binary.BigEndian.AppendUint64(nil, f.number)
	return io.LimitReader(io.MultiReader(bytes.NewReader(head), endless{}), f.size)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, filler), nil }

func (s *webServer) pids() []int {
	trees, err := meter.Trees([]int{s.root()})
	if err != nil || len(trees) == 0 {
		return []int{s.root()}
	}
	return trees[0]
}

func (s *webServer) usage() (meter.Usage, error) { return meter.UsageOf(s.pids()) }

func (s *webServer) close() error {
	s.client.CloseIdleConnections()
	if s.closeServer == nil {
		return nil
	}
	return s.closeServer()
}

// each does f for every file, mediaConns at a time.
func (s *webServer) each(ctx context.Context, list []*webFile, f func(context.Context, *webFile) error) error {
	return parallel(mediaConns, list, func(x *webFile) error { return f(ctx, x) })
}

// together puts all files at once, a connection for each.
func (s *webServer) together(ctx context.Context, list []*webFile) error {
	return parallel(len(list), list, func(x *webFile) error { return s.put(ctx, x) })
}

func parallel(workers int, list []*webFile, f func(*webFile) error) error {
	work := make(chan *webFile)
	var faults []error
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for x := range work {
				if err := f(x); err != nil {
					mu.Lock()
					faults = append(faults, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, x := range list {
		work <- x
	}
	close(work)
	wg.Wait()
	if len(faults) > 3 {
		faults = append(faults[:3], fmt.Errorf("and %d more", len(faults)-3))
	}
	return errors.Join(faults...)
}

// put sends a file.
func (s *webServer) put(ctx context.Context, f *webFile) error {
	url, err := s.putURL(f)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, f.body())
	if err != nil {
		return err
	}
	req.ContentLength = f.size
	answer, err := s.do(req, 64<<10)
	if err != nil || s.taken == nil {
		return err
	}
	return s.taken(f, answer)
}

// get reads a file whole.
func (s *webServer) get(ctx context.Context, f *webFile) error {
	url, err := s.getURL(f)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	buf := buffers.Get().(*[256 << 10]byte)
	defer buffers.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf[:])
	if err == nil && (n != f.size || resp.StatusCode != http.StatusOK) {
		err = fmt.Errorf("%w: %d bytes of %d: %s", errMedia, n, f.size, resp.Status)
	}
	return err
}

var buffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// do sends a request and returns an answer of at most limit bytes.
func (s *webServer) do(req *http.Request, limit int64) ([]byte, error) {
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%w: %s: %.200s", errMedia, resp.Status, text)
	}
	return text, err
}

// webClient speaks HTTP/1.1 only, with connections enough for the largest crowd.
func webClient(insecure bool) *http.Client {
	t := &http.Transport{MaxIdleConnsPerHost: crowdFull, DisableCompression: true, WriteBufferSize: 128 << 10, ReadBufferSize: 128 << 10}
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	if insecure {
		t.TLSClientConfig = throwAwayTLS()
	}
	return &http.Client{Transport: t}
}
