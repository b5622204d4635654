package mediad

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// Slices of a file that the kernel sends. They grow while they are sent fast, so that deadlines cost nothing, and shrink for clients
// that need long for one.
const (
	sliceMin = 64 << 10
	sliceMax = 4 << 20
)

// outflow is the ResponseWriter of a download. It gives every piece a deadline, and it has ReadFrom: without that net/http would copy
// the file through memory instead of having the kernel send it, at several times the cost. One goroutine.
type outflow struct {
	q       *request
	pace    pace
	refused Reason // http.ServeContent wanted to say so, in words of its own
	err     error  // why the body is not whole
}

// Header implements http.ResponseWriter.
func (o *outflow) Header() http.Header { return o.q.w.Header() }

// WriteHeader implements http.ResponseWriter. Refusals are held back: ours are JSON.
func (o *outflow) WriteHeader(status int) {
	switch {
	case status == http.StatusRequestedRangeNotSatisfiable:
		o.refused = RangeUnsatisfiable
	case status == http.StatusPreconditionFailed:
		o.refused = Precondition
	case status >= http.StatusBadRequest:
		o.refused = Internal // it could not seek
	default:
		o.q.begun = true
		o.q.armWrite()
		o.q.w.WriteHeader(status)
	}
}

// pieceSize is what is written under one deadline, where a write that was cut off cannot go on: a record of TLS, a frame of HTTP/2.
const pieceSize = 16 << 10

// Write implements http.ResponseWriter.
func (o *outflow) Write(p []byte) (total int, err error) {
	if o.refused != OK {
		return len(p), nil
	}
	for total < len(p) && err == nil {
		var n int
		n, err = o.piece(p[total:min(total+pieceSize, len(p))])
		total += n
	}
	return total, o.note(err)
}

func (o *outflow) piece(p []byte) (int, error) {
	began := time.Now()
	want := began.Add(o.pace.credit + o.pace.earned(int64(len(p))))
	if d := want.Sub(o.pace.until); d < 0 || d >= o.pace.stall/4 {
		o.pace.until = want
		_ = o.q.rc.SetWriteDeadline(want)
	}
	n, err := o.q.w.Write(p)
	o.q.s.count.bytesOut.Add(float64(n))
	o.pace.took(int64(n), time.Since(began)) // who is too slow meets the next deadline: it is credit and what the piece earns
	return n, err
}

// ReadFrom implements io.ReaderFrom. http.ServeContent calls it with an io.LimitedReader over the blob.
func (o *outflow) ReadFrom(src io.Reader) (int64, error) {
	if part, ok := src.(*io.LimitedReader); ok && o.q.r.TLS == nil && o.q.r.ProtoMajor == 1 {
		if file, ok := part.R.(*os.File); ok {
			if to, ok := o.q.w.(io.ReaderFrom); ok {
				return o.send(to, file, part)
			}
		}
	}
	return o.copy(src)
}

// send has the kernel send the file, slice by slice. A slice that is not done at its deadline has moved what it has moved: as long as
// the client keeps its pace, it goes on.
func (o *outflow) send(to io.ReaderFrom, file *os.File, part *io.LimitedReader) (total int64, err error) {
	slice := int64(sliceMin)
	for part.N > 0 {
		piece := io.LimitedReader{R: file, N: min(part.N, slice)}
		want, began := piece.N, time.Now()
		_ = o.q.rc.SetWriteDeadline(began.Add(o.pace.credit))
		n, err := to.ReadFrom(&piece)
		total += n
		part.N -= n
		o.q.s.count.bytesOut.Add(float64(n))
		took := time.Since(began)
		fast := o.pace.took(n, took)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && fast:
			slice = sliceMin
		case err != nil:
			return total, o.note(err)
		case n < want:
			return total, o.note(io.ErrUnexpectedEOF) // the file is shorter than it was
		case took < o.pace.stall/32:
			slice = min(2*slice, sliceMax)
		}
	}
	return total, nil
}

// copySize is what is read at once of what the kernel cannot send.
const copySize = 2 * pieceSize

var copies = sync.Pool{New: func() any { return new([copySize]byte) }}

// copy is send for TLS, HTTP/2 and blobs that are not files here. What was written to those in part cannot be written again, so a piece
// has all the time that its bytes may need.
func (o *outflow) copy(src io.Reader) (total int64, err error) {
	buf := copies.Get().(*[copySize]byte)
	defer copies.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			m, err := o.Write(buf[:n])
			total += int64(m)
			if err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, o.note(err)
		}
	}
}

// note keeps the first error: http.ServeContent tells nobody.
func (o *outflow) note(err error) error {
	if err == nil || o.err != nil {
		return err
	}
	o.err = err
	if reasonOf(err) == Internal {
		var kept *os.PathError
		if !errors.As(err, &kept) {
			o.err = &fault{Interrupted, err} // the connection's
		}
	}
	return err
}
