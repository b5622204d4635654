package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"linecard.example/gateway/client"
)

// maxTransfers is how many files wait in a chat, each way.
const maxTransfers = 64

// transfer is a file that is sent or saved. Its worker writes the outcome, the chat's loop reads it afterwards.
type transfer struct {
	progress *progress
	to, path string // of a file to send: path is what was typed
	upload   *client.FileUpload
	file     *client.ReceivedFile // of one to save, to path
	number   int                  // of file

	sent *client.Sent
	err  error
}

// transferEvent is the begin or the end of a transfer.
type transferEvent struct {
	*transfer
	ended bool
}

// chatFiles are the files of a chat. Loop only, but for the channels.
type chatFiles struct {
	received []*client.ReceivedFile // number - 1; nil: saved
	sending  chan *transfer
	saving   chan *transfer
	events   chan transferEvent
	waiting  int          // transfers that have not ended
	active   []*transfer  // that have begun
	ticker   *time.Ticker // while some are active; nil otherwise
}

// startFiles starts the workers, one each way; they end with ctx.
func (t *chat) startFiles(ctx context.Context) {
	f := &t.files
	f.sending, f.saving, f.events = make(chan *transfer, maxTransfers), make(chan *transfer, maxTransfers), make(chan transferEvent)
	for _, queue := range []chan *transfer{f.sending, f.saving} {
		go func() {
			for {
				select {
				case tr := <-queue:
					if !f.post(ctx, transferEvent{tr, false}) {
						return
					}
					t.transfer(ctx, tr)
					if !f.post(ctx, transferEvent{tr, true}) {
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	}
}

// post tells the loop of a transfer's begin or end; false when there is no loop any more.
func (f *chatFiles) post(ctx context.Context, e transferEvent) bool {
	select {
	case f.events <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

// transfer does the work. Worker only.
func (t *chat) transfer(ctx context.Context, tr *transfer) {
	switch {
	case tr.file != nil:
		tr.err = tr.file.Save(ctx, tr.path, tr.progress.note)
		return
	case tr.upload == nil:
		if tr.upload, tr.err = t.dev.NewFileUpload(ctx, tr.to, tr.path, aboutFile(tr.path, "")); tr.err != nil {
			return
		}
	}
	if tr.sent, tr.err = tr.upload.Send(ctx, tr.progress.note); tr.err != nil && !passes(tr.err) {
		if err := tr.upload.Drop(ctx); err != nil {
			tr.err = errors.Join(tr.err, err)
		}
	}
}

// tick is the ticker's channel, nil while nothing moves or nobody looks.
func (f *chatFiles) tick() <-chan time.Time {
	if f.ticker == nil {
		return nil
	}
	return f.ticker.C
}

// bars draws what is under way above the prompt.
func (t *chat) bars() {
	var lines []string
	for _, tr := range t.files.active {
		if line := tr.progress.line(t.screen.width - 1); line != "" {
			lines = append(lines, line)
		}
	}
	t.screen.status(lines)
}

// transferred notes the begin or the end of a transfer.
func (t *chat) transferred(e transferEvent) {
	f, tr := &t.files, e.transfer
	if !e.ended {
		if f.active = append(f.active, tr); t.screen.tty && f.ticker == nil {
			f.ticker = time.NewTicker(drawEvery)
		}
		return
	}
	f.waiting--
	for i, a := range f.active {
		if a == tr {
			f.active = append(f.active[:i], f.active[i+1:]...)
			break
		}
	}
	if len(f.active) == 0 && f.ticker != nil {
		f.ticker.Stop()
		f.ticker = nil
	}
	t.bars()
	switch {
	case tr.err != nil && errors.Is(tr.err, context.Canceled):
	case tr.file != nil:
		t.saved(tr)
	default:
		t.fileSent(tr)
	}
}

func (t *chat) saved(tr *transfer) {
	switch {
	case tr.err == nil:
		t.files.received[tr.number-1] = nil
		t.screen.say("  saved and verified: %s", printable(tr.path))
	case passes(tr.err):
		t.screen.say("! file %d is not here yet (%v); /save %d goes on with it", tr.number, tr.err, tr.number)
	default:
		t.screen.say("! file %d cannot be saved: %v", tr.number, tr.err)
	}
}

func (t *chat) fileSent(tr *transfer) {
	switch {
	case tr.err == nil:
		t.posts++
		t.posted(outcome{line: line{to: tr.to, text: "file " + filepath.Base(tr.path)}, sent: tr.sent})
	case passes(tr.err) && tr.upload != nil:
		t.screen.say("! not sent yet to %s (%v): %s; the next chat goes on with it", tr.to, tr.err, printable(tr.path))
	default:
		t.screen.say("! not sent to %s (%v): %s", tr.to, tr.err, printable(tr.path))
	}
}

// queue gives a transfer to its worker; false when too many wait.
func (t *chat) queue(tr *transfer) bool {
	queue := t.files.sending
	if tr.file != nil {
		queue = t.files.saving
	}
	select {
	case queue <- tr:
		t.files.waiting++
		return true
	default:
		t.screen.say("! Too many files are waiting; not taken: %s", printable(tr.path))
		return false
	}
}

// typedFile obeys /file PATH.
func (t *chat) typedFile(path string) {
	path = strings.TrimSpace(path)
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			path = filepath.Join(home, rest)
		}
	}
	info, err := os.Stat(path)
	switch {
	case path == "":
		t.screen.say("! Which one? /file PATH")
	case t.to == "":
		t.screen.say("! To whom? Choose with /to NAME.")
	case err != nil:
		t.screen.say("! %v", err)
	default:
		if t.queue(&transfer{progress: newProgress("sending " + filepath.Base(path)), to: t.to, path: path}) {
			t.screen.say("  sending %s (%s) to %s", printable(filepath.Base(path)), bytesText(info.Size()), t.to)
		}
	}
}

// typedSave obeys /save N [PATH].
func (t *chat) typedSave(rest string) {
	word, where, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 || n > len(t.files.received) || t.files.received[n-1] == nil {
		t.screen.say("! Which one? /save N [PATH]; /files lists them.")
		return
	}
	file := t.files.received[n-1]
	p := file.Pointer()
	where = strings.TrimSpace(where)
	path := file.Path()
	if where != "" || path == "" {
		if path, err = destination(where, &p); err != nil {
			t.screen.say("! %v", err)
			return
		}
	}
	t.save(n, path)
}

func (t *chat) save(n int, path string) {
	file := t.files.received[n-1]
	p := file.Pointer()
	t.queue(&transfer{progress: newProgress("saving " + p.SafeName()), file: file, number: n, path: path})
}

// fileCame remembers a file before its message is done with, and says how to get it.
func (t *chat) fileCame(m *client.Message, from string) error {
	file, err := t.dev.RememberFile(m, from)
	if err != nil {
		return err
	}
	t.files.received = append(t.files.received, file)
	return nil
}

// describeFile is what is shown of a file in place of a text.
func describeFile(m *client.Message) string {
	text := fmt.Sprintf("[file: %s, %s]", printable(m.File.SafeName()), bytesText(m.File.Size))
	if m.Text != "" {
		text += " " + printable(m.Text)
	}
	return text
}

// listFiles obeys /files.
func (t *chat) listFiles() {
	none := true
	for i, file := range t.files.received {
		if file == nil {
			continue
		}
		none = false
		p := file.Pointer()
		t.screen.say("  %-3d %s, %s, from %s, %s", i+1, printable(p.SafeName()), bytesText(p.Size), printable(file.From()), file.SentAt().Local().Format(time.DateTime))
	}
	for _, tr := range t.files.active {
		none = false
		t.screen.say("  ... %s, %s of %s", printable(tr.progress.label), bytesText(tr.progress.done.Load()), bytesText(tr.progress.total.Load()))
	}
	if none {
		t.screen.say("  none")
	}
}

// goOn takes up what earlier runs left: files that were being sent or saved, and those that nobody has saved yet.
func (t *chat) goOn() {
	uploads, err := t.dev.FileUploads()
	if err != nil {
		t.screen.say("! %v", err)
	}
	for _, u := range uploads {
		if t.queue(&transfer{progress: newProgress("sending " + u.Name()), to: u.To(), path: u.Path(), upload: u}) {
			t.screen.say("  going on to send %s (%s) to %s", printable(u.Name()), bytesText(u.Size()), u.To())
		}
	}
	received, err := t.dev.ReceivedFiles()
	if err != nil {
		t.screen.say("! %v", err)
	}
	t.files.received = received
	for i, file := range received {
		if file.Path() != "" {
			t.save(i+1, file.Path())
		}
	}
	if len(received) > 0 {
		t.screen.say("  %d received files are not saved yet; /files lists them.", len(received))
	}
}
