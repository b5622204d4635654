package client

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"linecard.example/internal/stanza"
)

// TestPace: what a row of answered (+) and unanswered (-) pings teaches.
func TestPace(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name  string
		from  pace
		pings string
		want  time.Duration
		fails time.Duration
	}{
		{"few answers", newPace(0, 0, 0), "++", 60 * s, 0},
		{"longer by a half", newPace(0, 0, 0), "+++", 90 * s, 0},
		{"and again", newPace(0, 0, 0), "++++++", 135 * s, 0},
		{"up to the most", newPace(0, 0, 0), "+++++++++++++++++++++++++++", maxPing, 0},
		{"a loss", newPace(0, 0, 0), "+++" + "+++" + "-", 60 * s, 135 * s},
		{"a loss at the least", newPace(0, 0, 0), "-", 60 * s, 60 * s},
		{"not as far as that again", newPace(0, 0, 0), "+++" + "+++" + "-" + "+++" + "++++++", 105 * s, 135 * s},
		{"until the network was long well", newPace(0, 105*s, 135*s), "++++++++++++++++++++", 150 * s, 0},
		{"the shortest failure counts", newPace(0, 105*s, 135*s), "-", 60*s - 60*s%paceUnit, 105 * s},
		{"set by the application", newPace(20*s, 300*s, 0), "++++++-", 20 * s, 0},
		{"as it was learnt before", newPace(0, 300*s, 420*s), "", 300 * s, 420 * s},
	} {
		p := c.from
		for _, ping := range c.pings {
			if ping == '+' {
				p.answered()
			} else {
				p.lost()
			}
		}
		if p.interval != c.want || p.failed != c.fails {
			t.Errorf("%s: %v, failed at %v; want %v, %v", c.name, p.interval, p.failed, c.want, c.fails)
		}
	}
}

// TestPingIsLearnt: a client announces each interval that it keeps, remembers what it has learnt, and begins anew on another network.
func TestPingIsLearnt(t *testing.T) {
	home, err := OpenHome(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	bubble(t, func(t *testing.T, f *fake) {
		c := f.start(func(o *Options) { o.Home = home })
		defer c.Close()
		conn := f.bind()
		// ping waits for one behind so much silence, which must announce so much.
		ping := func(silence time.Duration, announced uint32) {
			t.Helper()
			begin := time.Now()
			v, _ := conn.hear(time.Hour)
			p, err := stanza.ParsePing(v)
			if err != nil || time.Since(begin) != silence || p.Interval != announced {
				t.Fatalf("%v announcing %d after %v, %v; want %d after %v", v.Tag, p.Interval, time.Since(begin), err, announced, silence)
			}
		}
		for range paceGrow {
			ping(time.Minute, 0)
			conn.say(stanza.Pong{})
		}
		ping(90*time.Second, 90)
		conn.say(stanza.Pong{})
		ping(90*time.Second, 0)
		if d := conn.ended(); d != pongWait {
			t.Fatalf("gave up after %v", d)
		}
		next := f.accept()
		b, err := stanza.ParseBind(next.intro)
		if err != nil || b.Interval != 60 {
			t.Fatalf("announces %d after the loss, %v", b.Interval, err)
		}
		if learnt, failed := home.takePace(); learnt != time.Minute || failed != 90*time.Second {
			t.Errorf("the home has %v, failed at %v", learnt, failed)
		}
		c.NetworkChanged()
		synctest.Wait()
		if learnt, failed := home.takePace(); learnt != defaultPing || failed != 0 {
			t.Errorf("on another network the home has %v, failed at %v", learnt, failed)
		}
	})
}

// TestPaceLasts: a Home has what was learnt when it is opened again; a file that is not whole is none.
func TestPaceLasts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	open := func() (learnt, failed time.Duration) {
		h, err := OpenHome(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		learnt, failed = h.takePace()
		h.putPace(&pace{interval: 5 * time.Minute, failed: 7 * time.Minute})
		return learnt, failed
	}
	open()
	if learnt, failed := open(); learnt != 5*time.Minute || failed != 7*time.Minute {
		t.Errorf("learnt %v, %v", learnt, failed)
	}
	for _, damage := range []string{"", "short", "twelve bytes"} {
		if err := os.WriteFile(filepath.Join(dir, "pace"), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if learnt, failed := open(); learnt != 0 || failed != 0 {
			t.Errorf("%q: learnt %v, %v", damage, learnt, failed)
		}
	}
}

// TestOldConnectionTeachesNothing: a connection that did not survive the change of networks is found out at once, and not held against the
// new network.
func TestOldConnectionTeachesNothing(t *testing.T) {
	for _, idle := range []time.Duration{time.Second, time.Minute + time.Second} { // the latter with a ping under way
		bubble(t, func(t *testing.T, f *fake) {
			home := MemoryHome()
			c := f.start(func(o *Options) { o.Home = home })
			defer c.Close()
			conn := f.bind()
			time.Sleep(idle)
			synctest.Wait()
			c.NetworkChanged()
			if v, ok := conn.hear(time.Second); !ok || v.Tag != stanza.TagPing {
				t.Fatalf("%v, %v, want a ping", v.Tag, ok)
			}
			if d := conn.ended(); d > pongWait {
				t.Errorf("gave up after %v", d)
			}
			f.bind()
			synctest.Wait()
			if learnt, failed := home.takePace(); learnt != defaultPing || failed != 0 {
				t.Errorf("the new network begins with %v, failed at %v", learnt, failed)
			}
		})
	}
}
