package testkit

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"linecard.example/gateway/client"
	"linecard.example/internal/disktest"
)

// TestDeliveredIsGoneInADay looks into every file of a whole system: what was delivered, or waited for a device that was unlinked, is
// nowhere a day later, though nothing has happened since; what waits is there, and is delivered.
func TestDeliveredIsGoneInADay(t *testing.T) {
	var ahead atomic.Int64
	s := Start(t, Inside, Settings{Clock: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	const each = 20
	h := NewHistory()
	ann := s.NewDevice("ann", h, DeviceOptions{})
	var delivered, waiting [][]byte
	sendTo := func(name string) (texts [][]byte) {
		t.Helper()
		for range each {
			text := randomText()
			sent, err := ann.Say(name, text)
			must(t, err)
			must(t, ann.Acked(name, sent))
			texts = append(texts, []byte(text))
		}
		return texts
	}
	// Accounts of many shards: some get everything, some are away.
	labels, away := map[string][]string{}, map[string]*client.Home{}
	for i := range 8 {
		name := fmt.Sprint("here", i)
		labels[name] = []string{name + "/1"}
		s.NewDevice(name, h, DeviceOptions{})
		delivered = append(delivered, sendTo(name)...)

		name = fmt.Sprint("away", i)
		d := s.NewDevice(name, h, DeviceOptions{})
		d.Close()
		away[name] = d.Home
		waiting = append(waiting, sendTo(name)...)
	}
	h.Judge(t, labels)
	// A device that is unlinked while messages wait for it.
	delivered = append(delivered, unlinkedWith(t, s, sendTo)...)
	Eventually(t, "all receipts", func() bool { return ann.Delivered() == 9*each })
	ann.Close()

	data := filepath.Join(s.Dir, "data")
	search := func(markers [][]byte) []string {
		t.Helper()
		found, err := disktest.SearchDir(data, markers)
		must(t, err)
		return found
	}
	if n := len(search(delivered)); n < len(delivered)/2 {
		t.Fatalf("%d of %d delivered texts are found before the scrub: the search shows nothing", n, len(delivered))
	}
	day := 24 * time.Hour
	ahead.Add(int64(day))
	Eventually(t, "a scrub of every group", func() bool {
		m := s.Metrics("up")
		return m.Sum("linecard_offline_shard_scrubs_total") >= 16 && m.Sum("linecard_router_shard_scrubs_total") >= 16 &&
			m.Sum("linecard_offline_shard_scrub_age_seconds") < day.Seconds()/2 && m.Sum("linecard_router_shard_scrub_age_seconds") < day.Seconds()/2
	})
	if found := search(delivered); len(found) > 0 {
		t.Errorf("%d times there is what was delivered: %s", len(found), strings.Join(found[:min(5, len(found))], "; "))
	}
	if n := len(search(waiting)); n < len(waiting)/2 {
		t.Errorf("only %d of %d waiting texts are found: the search does not see what is there", n, len(waiting))
	}
	for name, home := range away {
		s.NewDevice(name, h, DeviceOptions{Home: home})
		labels[name] = []string{name + "/1"}
	}
	h.Judge(t, labels)
}

// randomText is a marker: text in which no compression finds anything to repeat, but for one in a hundred or so.
func randomText() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return base64.RawStdEncoding.EncodeToString(b)
}

// unlinkedWith has messages sent to an account with two devices, of which one is away and then unlinked.
func unlinkedWith(t *testing.T, s *System, sendTo func(string) [][]byte) [][]byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	two := s.NewDevice("two", nil, DeviceOptions{})
	home := client.MemoryHome()
	number, err := two.LinkDevice(ctx, home.PublicKey())
	must(t, err)
	texts := sendTo("two")
	Eventually(t, "the first device's copies", func() bool { return len(two.Texts()) == len(texts) })
	must(t, two.UnlinkDevice(ctx, number))
	Eventually(t, "the drop of the second's queue", func() bool {
		return s.Metrics("up").Sum("linecard_router_pending_drops") == 0
	})
	return texts
}
