package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress is how far a transfer is. The transfer's goroutines note it; one other goroutine draws it.
type progress struct {
	label       string
	done, total atomic.Int64

	bar *progressbar.ProgressBar // who draws
}

func newProgress(label string) *progress { return &progress{label: label} }

// note is what transfers call.
func (p *progress) note(done, total int64) {
	p.total.Store(total)
	p.done.Store(done)
}

// line returns the bar, at most width columns; "" before anything moved. The drawing goroutine only.
func (p *progress) line(width int) string {
	total := p.total.Load()
	if total <= 0 {
		return ""
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(io.Discard), progressbar.OptionSetWidth(16), progressbar.OptionShowBytes(true),
			progressbar.OptionShowTotalBytes(true), progressbar.OptionShowCount(), progressbar.OptionUseIECUnits(true), progressbar.OptionSetElapsedTime(false))
	}
	if err := p.bar.Set64(min(p.done.Load(), total)); err != nil {
		return ""
	}
	text := excerpt(p.label) + strings.TrimRight(strings.TrimLeft(p.bar.String(), "\r"), " ")
	if runes := []rune(text); len(runes) > width {
		return string(runes[:width])
	}
	return text
}

// drawEvery is how often a bar is drawn anew.
const drawEvery = 200 * time.Millisecond

// showProgress draws p on standard error until the function that it returns is called, if that is a terminal.
func showProgress(std Std, p *progress) (end func()) {
	f, ok := std.Err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(drawEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fmt.Fprintf(f, "\r\x1b[K%s", p.line(newScreen(f).width-1))
			case <-stop:
				fmt.Fprint(f, "\r\x1b[K")
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}

// bytesText returns a length for people.
func bytesText(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
