package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"linecard.example/gateway/client"
)

// maxTyped is how many own messages are remembered for their ticks.
const maxTyped = 512

// screen prints lines. On a terminal it keeps the prompt below them; on a pipe there is no prompt and no colour. Loop only.
type screen struct {
	out   io.Writer
	tty   bool
	width int
	shown string // the prompt that stands in the last line
	above int    // lines of transfers that stand right above it
	lines []string
}

func newScreen(out io.Writer) *screen {
	s := &screen{out: out, width: 80}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.tty = true
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			s.width = w
		}
	}
	return s
}

// say prints one or more lines above the prompt.
func (s *screen) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...) + "\n"
	text = s.clear() + text
	fmt.Fprint(s.out, text) // a terminal that is gone ends the chat by its input
}

// prompt shows whom the next line goes to.
func (s *screen) prompt(to string) {
	if !s.tty {
		return
	}
	p := "> "
	if to != "" {
		p = "to " + to + "> "
	}
	if s.shown == p {
		return
	}
	text := s.clear()
	for _, line := range s.lines {
		text += line + "\n"
	}
	s.above = len(s.lines)
	fmt.Fprint(s.out, text+p)
	s.shown = p
}

// clear returns what removes the prompt and the transfers above it.
func (s *screen) clear() string {
	if !s.tty || s.shown == "" {
		return ""
	}
	text := "\r\x1b[K" + strings.Repeat("\x1b[A\x1b[K", s.above)
	s.shown, s.above = "", 0
	return text
}

// entered notes that the user has ended the line of the prompt: what stands above is history.
func (s *screen) entered() { s.shown, s.above = "", 0 }

// status shows lines about transfers above the prompt. What is being typed stays, if it fits into its line.
func (s *screen) status(lines []string) {
	if !s.tty {
		return
	}
	if s.lines = lines; len(lines) != s.above || s.shown == "" {
		fmt.Fprint(s.out, s.clear()) // the next prompt writes them
		return
	}
	text := "\x1b7\r" + strings.Repeat("\x1b[A", s.above)
	for _, line := range lines {
		text += "\x1b[K" + line + "\r\x1b[B"
	}
	fmt.Fprint(s.out, text+"\x1b8")
}

func (s *screen) blue(text string) string {
	if s.tty {
		return "\x1b[34m" + text + "\x1b[0m"
	}
	return text
}

// show prints an event, and lets the server forget it.
func (t *chat) show(ctx context.Context, e client.Event) {
	switch e := e.(type) {
	case *client.Message:
		t.message(ctx, e)
	case *client.Receipt:
		mark, word := "✓✓", "delivered"
		if e.Read {
			mark, word = t.screen.blue("✓✓"), "read"
		}
		if e.Undelivered != 0 {
			t.undelivered(e)
			return
		}
		for _, id := range e.IDs {
			if l, ok := t.typed[id]; ok {
				t.screen.say("  %s %s  %s", mark, word, excerpt(l.text))
				if e.Read {
					delete(t.typed, id)
				}
			}
		}
	}
}

// undelivered says what another region did not take, or not for every device.
func (t *chat) undelivered(e *client.Receipt) {
	for _, id := range e.IDs {
		if l, ok := t.typed[id]; ok {
			t.screen.say("! not delivered to every device (%s): %s", e.Undelivered, excerpt(l.text))
		}
	}
}

func (t *chat) message(ctx context.Context, m *client.Message) {
	nameCtx, cancel := context.WithTimeout(ctx, nameWait)
	name, verified := t.dev.Sender(nameCtx, m)
	cancel()
	text := printable(m.Text)
	if !m.Readable {
		text = "[a message that this version cannot read]"
	}
	if m.File != nil {
		text = describeFile(m)
		if err := t.fileCame(m, name); err != nil {
			t.screen.say("! the home cannot be written: %v", err)
			return
		}
		text += fmt.Sprintf(" /save %d", len(t.files.received))
	}
	at := m.SentAt.Local().Format(time.TimeOnly)
	switch {
	case m.Own:
		t.screen.say("[%s] you (device %d) to %s: %s", at, m.FromDevice, printable(m.To), text)
	case verified:
		t.screen.say("[%s] %s: %s", at, name, text)
	default:
		t.screen.say("[%s] %s (name not verified): %s", at, name, text)
	}
	if err := m.Done(); err != nil {
		t.screen.say("! the home cannot be written: %v", err)
		return
	}
	if m.Own {
		return
	}
	t.meet(name, person{m.From, verified})
	if t.to == "" && verified {
		t.to = name
		t.screen.say("Answers go to %s now (/to NAME chooses another).", name)
	}
	if err := t.dev.MarkRead(ctx, m); err != nil && ctx.Err() == nil {
		t.screen.say("! no read receipt: %v", err)
	}
}

func (t *chat) meet(name string, p person) {
	if _, ok := t.known[name]; !ok {
		t.people = append(t.people, name)
	}
	t.known[name] = p
}

// posted notes a typed line that has its id now, or says why it was not taken.
func (t *chat) posted(o outcome) { // o is this call's own: typed keeps its line
	t.posts--
	switch {
	case errors.Is(o.err, client.ErrUnknownName):
		t.screen.say("! %s is not registered; not sent: %s", o.line.to, excerpt(o.line.text))
	case o.err != nil && errors.Is(o.err, context.Canceled):
	case o.err != nil:
		t.screen.say("! not sent to %s (%v): %s", o.line.to, o.err, excerpt(o.line.text))
	default:
		t.meet(o.line.to, person{o.sent.To, true})
		t.typed[o.sent.ID] = &o.line
		t.order = append(t.order, o.sent.ID)
		if len(t.order) > maxTyped {
			delete(t.typed, t.order[0])
			t.order = t.order[1:]
		}
		if stored(o.sent) { // its notice came before this
			t.tick(&o.line)
		}
	}
}

// tick shows once that the server has a line.
func (t *chat) tick(l *line) {
	if !l.stored {
		l.stored = true
		t.screen.say("  ✓ stored  %s", excerpt(l.text))
	}
}

// stored reports whether the message is acked already.
func stored(s *client.Sent) bool {
	select {
	case <-s.Done():
		return s.Err() == nil
	default:
		return false
	}
}

// notice shows what happened to the connection or to a message.
func (t *chat) notice(n client.Notice) error {
	var untrusted *client.CertificateError
	switch n.Kind {
	case client.NoticeConnected:
		self := t.dev.Self()
		if t.met {
			t.screen.say("Connected again.")
			break
		}
		t.met = true
		t.screen.say("Connected as %s, account %d, device %d.%s", self.Handle, self.Account, self.Device, t.waiting())
	case client.NoticeDisconnected:
		if errors.As(n.Err, &untrusted) && !t.met {
			return n.Err
		}
		t.screen.say("! Not connected: %v. Trying again%s.", n.Err, inAWhile(n.RetryIn))
	case client.NoticeAcked:
		if l, ok := t.typed[n.ID]; ok {
			t.tick(l)
		}
	case client.NoticeRefused:
		text := ""
		if l, ok := t.typed[n.ID]; ok {
			text = ": " + excerpt(l.text)
			delete(t.typed, n.ID)
		}
		t.screen.say("! message %d to %s was refused: %v%s", n.ID, orNumber(n.Name, n.To), n.Err, text)
	case client.NoticeHeld:
		t.screen.say("  message %d to %s waits (%s); again%s", n.ID, orNumber(n.Name, n.To), n.Reason, inAWhile(n.RetryIn))
	}
	return nil
}

// waiting says what an earlier run left.
func (t *chat) waiting() string {
	if n := t.dev.home.Unacked() - len(t.typed); n > 0 {
		return fmt.Sprintf(" %d messages of before are on their way.", n)
	}
	return ""
}

func (t *chat) who() {
	self := t.dev.Self()
	if self.Account == 0 {
		t.screen.say("  you       %s, not registered yet", strings.ToLower(t.cmd.As))
	} else {
		t.screen.say("  you       %s, account %d, device %d", self.Handle, self.Account, self.Device)
	}
	for _, r := range t.dev.home.Roots() {
		t.screen.say("  cluster   %s, root %s", r.Cluster, r.Fingerprint())
	}
	switch up, trouble := t.dev.Connected(); {
	case up:
		t.screen.say("  server    %s, connected", t.cmd.Server)
	case trouble != nil:
		t.screen.say("  server    %s, not connected: %v", t.cmd.Server, trouble)
	default:
		t.screen.say("  server    %s, connecting", t.cmd.Server)
	}
	for _, name := range t.people {
		p, note := t.known[name], ""
		if !p.verified {
			note = ", name not verified"
		}
		if name == t.to {
			note += ", you are writing to"
		}
		t.screen.say("  %-9s account %d%s", name, p.account, note)
	}
	if _, met := t.known[t.to]; t.to != "" && !met {
		t.screen.say("  %-9s you are writing to; not met yet", t.to)
	}
}

func orNumber(name string, a client.Account) string {
	if name != "" {
		return name
	}
	return fmt.Sprintf("#%d", a)
}

func inAWhile(d time.Duration) string {
	if d < time.Second {
		return " at once"
	}
	return " in " + d.Round(time.Second).String()
}

// excerpt shortens an own message for a tick.
func excerpt(text string) string {
	const most = 40
	runes := []rune(printable(text))
	if len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return string(runes)
}
