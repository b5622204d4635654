package swarm

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"
)

// ErrToken: an agent that is not on the loopback interface needs a token of at least 16 bytes.
var ErrToken = errors.New("swarm: an agent that others can reach needs a token of 16 bytes or more")

const (
	maxHello     = 1024 // bytes of an agent's first line
	maxStrangers = 64   // connections at a time that have not said the token
	acceptPause  = 100 * time.Millisecond
)

// Agent serves engines to controllers of other machines: for each connection that says the token it starts a child, which the lines go
// through to. It returns when ctx ends and all children have. The lines, token included, are not encrypted: agents belong into networks
// of their own.
//
// Whoever has the token can make this machine connect to any address.
func Agent(ctx context.Context, ln net.Listener, token string, command []string, log io.Writer) error {
	tcp, ok := ln.Addr().(*net.TCPAddr)
	if len(token) < 16 && (!ok || !tcp.IP.IsLoopback()) {
		return errors.Join(ErrToken, ln.Close())
	}
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("swarm: which program this is: %w", err)
		}
		command = []string{self, "bench", "swarm"}
	}
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var engines sync.WaitGroup
	defer engines.Wait()
	strangers := make(chan struct{}, maxStrangers)
	for {
		select {
		case strangers <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		nc, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("swarm: agent: %w", err)
		case err != nil: // no descriptor left, for one: engines that run go on
			fmt.Fprintln(log, "linecard bench agent:", err)
			<-strangers
			time.Sleep(acceptPause) // no descriptor: accept fails at once, again and again
			continue
		}
		engines.Go(func() {
			if err := serveAgent(ctx, nc, token, command, log, func() { <-strangers }); err != nil {
				fmt.Fprintln(log, "linecard bench agent:", nc.RemoteAddr(), err)
			}
		})
	}
}

// heard reads the first line, and says whether it has the token.
func heard(nc net.Conn, in *bufio.Reader, token string) error {
	_ = nc.SetReadDeadline(time.Now().Add(tokenWait))
	line, err := readHello(in)
	if err != nil {
		return err
	}
	var hello agentHello
	if err := json.Unmarshal(line, &hello); err != nil || subtle.ConstantTimeCompare([]byte(hello.Token), []byte(token)) != 1 {
		return errors.New("wrong token")
	}
	return nc.SetReadDeadline(time.Time{})
}

// serveAgent runs the child of one connection. It calls known as soon as this is one that may have it, or not.
func serveAgent(ctx context.Context, nc net.Conn, token string, command []string, log io.Writer, known func()) error {
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	in := bufio.NewReader(nc)
	err := heard(nc, in, token)
	known()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = nc, log, endWait
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(pipe, in)
		pipe.Close() // the controller has gone: the child ends
	}()
	return cmd.Wait()
}

// readHello reads the first line, of at most maxHello bytes.
func readHello(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for len(line) < maxHello {
		b, err := in.ReadByte()
		if err != nil {
			return nil, err
		}
		if b == '\n' {
			return line, nil
		}
		line = append(line, b)
	}
	return nil, errors.New("a first line without end")
}
