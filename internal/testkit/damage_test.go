package testkit

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"linecard.example/internal/stanza"
)

// place finds a text in the tables below a directory: file and offset.
func place(t *testing.T, dir, text string) (string, int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	must(t, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		must(t, err)
		if at := bytes.Index(b, []byte(text)); at >= 0 {
			return file, int64(at)
		}
	}
	t.Fatalf("%.20q... is in none of %q", text, files)
	return "", 0
}

// flip changes a bit of a file.
func flip(t *testing.T, file string, at int64, bit uint) {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	b[at] ^= 1 << bit
	must(t, os.WriteFile(file, b, 0o600))
}

// TestDamagedRecordStopsItsShard spoils a table where a waiting message is, and brings its device back: its shard stops with one line
// that names group and file, /readyz and a gauge say so, a message to it is neither acked nor refused for good; sessions of other
// shards do not notice. With the file restored nothing is lost.
func TestDamagedRecordStopsItsShard(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := Start(t, Together, Settings{Gateway: crowd})
	h := NewHistory()
	ann := s.NewDevice("ann", h, DeviceOptions{Home: s.DiskHome("ann")})
	dan := s.NewDevice("dan", h, DeviceOptions{Quiet: true})
	group := stanza.QueueGroup(stanza.ShardOf(dan.Self().Account, 16)).String()
	dan.Close()
	texts := []string{gibberishOnce(), gibberishOnce(), gibberishOnce()} // the first may share a block with what every start reads
	for _, text := range texts {
		sent, err := ann.Say("dan", text)
		must(t, err)
		must(t, ann.Acked("dan", sent))
	}
	stop(t, s, "up")
	file, at := place(t, filepath.Join(s.Dir, "data", "offline", "state"), texts[1])
	flip(t, file, at+1000, 3)
	s.StartAll()

	crowd := s.NewCrowd(CrowdOptions{Skip: func(handle string) bool { return stanza.QueueGroup(stanza.HandleShard(handle, 16)).String() == group }})
	back := s.NewDevice("dan", h, DeviceOptions{Home: dan.Home})
	readiness(t, s, "up", http.StatusServiceUnavailable, group+" stopped", filepath.Base(file))
	if n := s.Metrics("up").Sum("linecard_offline_shard_stopped"); n != 1 {
		t.Errorf("%v shards are stopped", n)
	}
	late, err := ann.Say("dan", "later")
	must(t, err)
	Eventually(t, "the message to the stopped shard is put off", func() bool {
		m := s.Metrics("up")
		return m.Sum(`linecard_router_refusals_total{reason="unavailable"}`)+m.Sum(`linecard_gateway_refusals_total{reason="unavailable"}`) > 0
	})
	crowd.Turn()
	crowd.Finish()
	var said []string
	for line := range strings.Lines(s.Process("up").Output()) {
		if strings.Contains(line, "level=ERROR") {
			said = append(said, line)
		}
	}
	if len(said) != 1 || !strings.Contains(said[0], "group="+group) || !strings.Contains(said[0], filepath.Base(file)) || !strings.Contains(said[0], "docs/operations.md") {
		t.Errorf("the log says %q", said)
	}
	if got := back.Texts(); len(got) > 1 || len(got) == 1 && got[0] != texts[0] {
		t.Errorf("%d messages came out of a damaged table", len(got))
	}

	stop(t, s, "up")
	flip(t, file, at+1000, 3)
	s.StartAll()
	ann.Hurry()
	back.Hurry()
	must(t, ann.Acked("dan", late))
	h.Judge(t, map[string][]string{"dan": {"dan/1"}})
}

var onces atomic.Int64

// gibberishOnce returns a text of several blocks of a table that no other is like.
func gibberishOnce() string {
	n := uint64(time.Now().UnixNano()) + uint64(onces.Add(1))
	b := make([]byte, 12<<10)
	for i := range b {
		n = n*6364136223846793005 + 1442695040888963407
		b[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[n>>58]
	}
	return string(b)
}
