package bench

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/testkit"
)

// TestServersElsewhere runs density against servers that this program has not started: their memory and CPU come from their metrics.
func TestServersElsewhere(t *testing.T) {
	if testing.Short() {
		t.Skip("-short leaves out what starts servers")
	}
	s := testkit.Start(t, testkit.Apart, testkit.Settings{Gateway: lifted})
	root, err := os.ReadFile(s.Root)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Exe: testkit.Binary(t), Dir: t.TempDir(), Out: t.TempDir(), Sessions: 200, Hold: time.Second,
		Gateways: []netip.AddrPort{netip.MustParseAddrPort(s.Server)}, Root: strings.TrimSpace(string(root)), Admins: map[string][]string{},
	}
	for _, part := range []string{"gateway", "router", "offline"} {
		o.Admins[part] = []string{s.Admin(part)}
	}
	rep, err := Run(t.Context(), "density", o)
	if err != nil {
		t.Fatal(err)
	}
	for key, least := range map[string]float64{"sessions": 200, "base_bytes": 10 << 20, "user_bytes_per_session": 1000, "setup_cpu_us": 1} {
		if f, ok := rep.Figure("density", key); !ok || f.Value < least {
			t.Errorf("%s: %v, want at least %v", key, f.Value, least)
		}
	}
	if !strings.Contains(rep.Title, "gateways elsewhere") || !strings.Contains(strings.Join(rep.Notes, "\n"), "resident size") {
		t.Errorf("%s: %v", rep.Title, rep.Notes)
	}
	for _, d := range []string{"gateway", "router", "offline"} {
		if !s.Process(d).Running() {
			t.Error(d, " was ended")
		}
	}
}
