package link

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRefusalsLogged: whoever reaches the port cannot fill the log, neither from ever new ports nor with ever new texts.
func TestRefusalsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		e := NewEndpoint(info(RoleRouter), newRecorder(t), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		flood := func(n int, text func(i int) string) int {
			before := strings.Count(log.String(), "\n")
			for i := range n {
				e.refused("10.0.0.9", fmt.Errorf("%s", text(i)))
			}
			return strings.Count(log.String(), "\n") - before
		}
		port := func(i int) string {
			return fmt.Sprintf("read tcp 10.0.0.1:7422->10.0.0.9:%d: read: connection reset by peer", 1024+i)
		}
		name := func(i int) string { return strings.Repeat("x", 1+i) }
		if n := flood(5000, port); n != 1 {
			t.Errorf("%d lines for one peer that resets", n)
		}
		if n := flood(5000, name); n != maxLogged-1 {
			t.Errorf("%d lines for 5000 texts", n)
		}
		if len(log.String()) > maxLogged*(maxReason+200) {
			t.Errorf("%d bytes", len(log.String()))
		}
		time.Sleep(logAgain)
		if n := flood(5000, func(i int) string { return "y" + name(i) }); n != maxLogged {
			t.Errorf("%d lines when it is time again", n)
		}
	})
}
