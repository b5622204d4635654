package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"linecard.example/internal/stanza"
)

// flowCases is too much of what is right.
func flowCases() []badCase {
	return []badCase{
		{name: "more than twice the window", bound: true, seen: inRefusal, event: refusedBy("gateway", stanza.ReasonWindow), also: []event{left},
			drops: true, do: func(b *bad) error { return b.pour(2*badWindow + 1) }},
		{name: "more than twice the window, again", bound: true, seen: inClose, event: closed(stanza.ReasonWindow),
			also: []event{left, refusedBy("gateway", stanza.ReasonWindow)}, drops: true, do: func(b *bad) error { return b.pour(2*badWindow + 2) }},
		{name: "more bytes than twice the window", bound: true, seen: inRefusal, event: refusedBy("gateway", stanza.ReasonWindow), also: []event{left},
			drops: true, do: (*bad).pourBytes},
		{name: "a message before the one that it comes after", bound: true, seen: inRefusal, event: refusedByQueue(stanza.ReasonGap), also: []event{left},
			drops: true, do: func(b *bad) error {
				to, err := b.k.absent()
				return firstErr(err, func() error { return b.Say(message(firstID, 0, to, 0)) }, func() error { return b.skipTo(stanza.TagAck) },
					func() error { return b.Say(message(firstID+9, firstID+8, to, 0)) })
			}},
		{name: "a full queue", bound: true, seen: judged, event: refusedByQueue(stanza.ReasonQueueFull), also: []event{left, left}, drops: true,
			do: (*bad).fillQueue},
		{name: "does not read (its connection is full: nothing can be said to it)", bound: true, seen: unseen, event: closed(stanza.ReasonSlowConsumer),
			drops: true, do: (*bad).neverRead},
	}
}

// pour says n messages in one frame to an account that is not there, so that no answer comes in between.
func (b *bad) pour(n uint64) error {
	to, err := b.k.absent()
	var all [][]byte
	for i := range n {
		all = append(all, message(firstID+i, max(firstID, firstID+i-1)*min(i, 1), to, 0))
	}
	return firstErr(err, func() error { return b.Say(all...) })
}

// pourBytes does so with fewer and longer ones, in one frame: 15 count as 8 KiB each, 3 as 4 KiB, where 128 KiB may be unanswered.
func (b *bad) pourBytes() error {
	to, err := b.k.absent()
	var all [][]byte
	for i := range uint64(18) {
		size := 4 << 10
		if i >= 15 {
			size = 0
		}
		all = append(all, message(firstID+i, max(firstID, firstID+i-1)*min(i, 1), to, size))
	}
	return firstErr(err, func() error { return b.Say(all...) })
}

// fillQueue sends one message more than a queue holds. The refusal names the device.
func (b *bad) fillQueue() error {
	to, err := b.k.absent()
	if err != nil {
		return err
	}
	for i := range uint64(64) {
		if err := firstErr(b.Say(message(firstID+i, 0, to, 0)), func() error { return b.skipTo(stanza.TagAck) }); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
	}
	if err := b.Say(message(firstID+64, 0, to, 0)); err != nil {
		return err
	}
	v, err := b.Next()
	if err != nil {
		return err
	}
	r, err := stanza.ParseRefused(v)
	if err != nil || r.Reason != stanza.ReasonQueueFull || !slices.Equal(r.Full, []byte{1}) || r.RetryAfter == 0 {
		return fmt.Errorf("refused %+v (%w), want queue_full of device 1 and a time", r, err)
	}
	return firstErr(b.alive(), b.Close)
}

// neverRead asks for pongs and does not take them.
func (b *bad) neverRead() error {
	pings := slices.Repeat([][]byte{stanza.Ping{}.Append(nil)}, stanza.MaxStanzas)
	for { // until the server has enough of it
		if b.Say(pings...) != nil {
			return nil
		}
	}
}

// unresponsive takes deliveries and acknowledges none.
func unresponsive() badCase {
	return badCase{name: "acknowledges nothing", bound: true, seen: inClose, event: closed(stanza.ReasonUnresponsive), also: []event{left}, drops: true,
		do: func(b *bad) error {
			sender := &bad{k: b.k}
			return firstErr(sender.connect(true), func() error { return sender.Say(message(firstID, 0, b.Bound.Account, 0)) },
				func() error { return sender.skipTo(stanza.TagAck) }, sender.Close)
		}}
}

// threeFaults is a configuration with an unknown key and two bad values.
const threeFaults = `colour = "blue"
shards = 0
[gateway]
handshake_timeout = "1h"
`

// said runs the binary to its end and returns all that it said, and its exit code.
func said(s *System, args ...string) (string, int) {
	cmd := exec.Command(Binary(s.t), args...)
	cmd.Dir = s.Dir
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		return err.Error(), -1
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// configCases is a configuration with three faults: everybody who reads it lists all three at once, and ends with 1.
func configCases(t testing.TB) []badCase {
	dir := t.TempDir()
	file := filepath.Join(dir, "three.toml")
	if err := os.WriteFile(file, []byte(threeFaults), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) badCase {
		return badCase{name: "a configuration with three faults, linecard " + args[0], seen: judged, also: []event{turnedAway(stanza.ReasonPeerClosed)},
			do: func(b *bad) error {
				text, code := said(b.k.s, args...)
				for _, fault := range []string{"colour", "shards", "gateway.handshake_timeout"} {
					if n := strings.Count(text, fault); n != 1 || code != 1 {
						return fmt.Errorf("%d times %s, exit code %d:\n%s", n, fault, code, text)
					}
				}
				return nil
			}}
	}
	return []badCase{
		run("check", "--config", file),
		run("up", "--config", file, "--data", filepath.Join(dir, "data")),
		run("gateway", "--config", file),
	}
}
