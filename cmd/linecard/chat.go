package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"linecard.example/gateway/client"
)

// ChatCmd is an interactive chat in a terminal, or over pipes.
type ChatCmd struct {
	sessionFlags
	To string `help:"Whom to write to first." placeholder:"NAME"`
}

// Validate is called by the parser.
func (c *ChatCmd) Validate() error {
	if c.To != "" {
		if err := checkPeer("--to", c.To); err != nil {
			return err
		}
	}
	return c.check()
}

const chatHelp = `  /to NAME   write to NAME from now on
  /file PATH send a file
  /files     received files, by number, and what is under way
  /save N [PATH]  save a received file; without PATH here, under its name
  /who       who is who, and how the connection is
  /help      this
  /quit      leave; what is not stored yet is sent next time, what is not even in the home is named
Ticks: ✓ the server has it, ✓✓ delivered, ✓✓ read (blue in a terminal).`

const (
	flushWait = 10 * time.Second // for messages to be stored, at the end of the input
	quitWait  = 2 * time.Second  // for lines to get into the home, at /quit
)

// chat is a running chat. Its loop goroutine owns it; others post to its channels.
type chat struct {
	cmd    *ChatCmd
	dev    *device
	screen *screen
	to     string
	people []string          // names met, in order
	known  map[string]person // by name
	typed  map[uint64]*line  // own messages whose ticks may still come, by id
	order  []uint64          // of typed, oldest first
	posts  int               // lines that are not in the home yet: Send waits for a connection, or for whose name it is
	met    bool              // connected once
	files  chatFiles
}

type person struct {
	account  client.Account
	verified bool
}

// line is an own message.
type line struct {
	to, text string
	stored   bool // shown as such
}

// outcome is what became of a line that was typed.
type outcome struct {
	line line
	sent *client.Sent
	err  error
}

// Run chats until /quit, the end of the input, or the end of ctx.
func (c *ChatCmd) Run(ctx context.Context, std Std) (err error) {
	notices := make(chan client.Notice, 1024)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dev, err := c.start(func(n client.Notice) {
		select {
		case notices <- n:
		default: // a tick less on the screen; waiting here would stop the client
		}
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	t := &chat{cmd: c, dev: dev, screen: newScreen(std.Out), to: strings.ToLower(c.To), known: map[string]person{}, typed: map[uint64]*line{}}
	t.screen.say("Messages are NOT end-to-end encrypted yet: the server can read them.")
	t.screen.say("You are %s. Connecting to %s ... (/help lists the commands)", strings.ToLower(c.As), c.Server)
	return t.loop(ctx, std.In, notices)
}

// loop is the chat's one owner: what it shows and remembers changes only here.
func (t *chat) loop(ctx context.Context, in io.Reader, notices <-chan client.Notice) error {
	input := readLines(ctx, in)
	events := t.receive(ctx)
	toSend := make(chan line, 64)
	outcomes := t.sendLines(ctx, toSend)
	t.startFiles(ctx)
	t.goOn()
	for {
		t.screen.prompt(t.to)
		select {
		case <-ctx.Done():
			return nil
		case <-t.dev.Done():
			return explain(t.dev.Err())
		case text, ok := <-input:
			if !ok || text == "/quit" {
				return t.leave(ctx, toSend, outcomes, notices, ok)
			}
			t.screen.entered()
			t.typedLine(text, toSend)
		case e := <-events:
			t.show(ctx, e)
		case e := <-t.files.events:
			t.transferred(e)
		case <-t.files.tick():
			t.bars()
		case o := <-outcomes:
			t.posted(o)
		case n := <-notices:
			if err := t.notice(n); err != nil {
				return err
			}
		}
	}
}

// readLines reads the input on a goroutine; at the process's end it may still sit in a read.
func readLines(ctx context.Context, in io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(in)
		scanner.Buffer(nil, 1<<20) // what is too large for a message is refused in words
		for scanner.Scan() {
			select {
			case lines <- strings.ToValidUTF8(strings.TrimSpace(scanner.Text()), "\ufffd"):
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

func (t *chat) receive(ctx context.Context) <-chan client.Event {
	events := make(chan client.Event)
	go func() {
		for {
			e, err := t.dev.Receive(ctx)
			if err != nil {
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return events
}

// sendLines sends what is typed, in order; Send may have to wait for a connection or a look-up, and the screen must not.
func (t *chat) sendLines(ctx context.Context, lines <-chan line) <-chan outcome {
	outcomes := make(chan outcome, cap(lines))
	go func() {
		defer close(outcomes)
		for l := range lines {
			s, err := t.dev.Send(ctx, l.to, l.text)
			outcomes <- outcome{l, s, err}
		}
	}()
	return outcomes
}

// typedLine obeys a command or sends a text.
func (t *chat) typedLine(text string, toSend chan<- line) {
	word, rest, _ := strings.Cut(text, " ")
	switch {
	case text == "":
	case word == "/help":
		t.screen.say("%s", chatHelp)
	case word == "/who":
		t.who()
	case word == "/file":
		t.typedFile(rest)
	case word == "/files":
		t.listFiles()
	case word == "/save":
		t.typedSave(rest)
	case word == "/to":
		name := strings.ToLower(strings.TrimSpace(rest))
		if err := checkPeer("/to", name); err != nil {
			t.screen.say("! %v", err)
			return
		}
		t.to = name
		t.screen.say("Writing to %s.", name)
	case strings.HasPrefix(text, "/"):
		t.screen.say("! %s is not a command; /help lists them", printable(word))
	case t.to == "":
		t.screen.say("! To whom? Choose with /to NAME.")
	default:
		select {
		case toSend <- line{to: t.to, text: text}:
			t.posts++
		default:
			t.screen.say("! Too much is waiting to be sent; this line was not taken: %s", excerpt(text))
		}
	}
}

// leave ends the chat. At the end of the input (a pipe) it first waits for what was typed to be stored.
func (t *chat) leave(ctx context.Context, toSend chan line, outcomes <-chan outcome, notices <-chan client.Notice, quit bool) error {
	close(toSend)
	if quit {
		return t.quit(ctx, outcomes, notices)
	}
	failed, err := t.awaitFiles(ctx, notices)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	for outcomes != nil {
		select {
		case o, ok := <-outcomes:
			if !ok {
				outcomes = nil
				break
			}
			t.posted(o)
			failed = failed || o.err != nil
		case n := <-notices:
			if err := t.notice(n); err != nil {
				return err
			}
		case <-ctx.Done():
			return errors.New("not everything was stored before the end")
		}
	}
	flushed := make(chan error, 1)
	go func() { flushed <- t.dev.Flush(ctx) }()
	for {
		select {
		case n := <-notices:
			if err := t.notice(n); err != nil {
				return err
			}
		case err := <-flushed:
			t.drainNotices(notices)
			if err != nil || failed {
				return fmt.Errorf("not everything was stored before the end")
			}
			return nil
		}
	}
}

// awaitFiles waits for the transfers that were asked for; each ends by itself when it gets no further.
func (t *chat) awaitFiles(ctx context.Context, notices <-chan client.Notice) (failed bool, err error) {
	for t.files.waiting > 0 {
		select {
		case e := <-t.files.events:
			t.transferred(e)
			failed = failed || e.ended && e.err != nil
		case n := <-notices:
			if err := t.notice(n); err != nil {
				return true, err
			}
		case <-t.dev.Done():
			return true, explain(t.dev.Err())
		case <-ctx.Done():
			return true, nil
		}
	}
	return failed, nil
}

// quit waits a moment for typed lines to get into the home, from where they go on their way by themselves, and says how many did not.
func (t *chat) quit(ctx context.Context, outcomes <-chan outcome, notices <-chan client.Notice) error {
	timer := time.NewTimer(quitWait)
	defer timer.Stop()
	for t.posts > 0 {
		select {
		case o, ok := <-outcomes:
			if !ok {
				return nil
			}
			t.posted(o)
		case n := <-notices:
			if err := t.notice(n); err != nil {
				return err
			}
		case <-t.dev.Done():
			return explain(t.dev.Err())
		case <-timer.C:
			return fmt.Errorf("%d typed lines were not taken and are lost", t.posts)
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func (t *chat) drainNotices(notices <-chan client.Notice) {
	for {
		select {
		case n := <-notices:
			if t.notice(n) != nil {
				return
			}
		default:
			return
		}
	}
}
