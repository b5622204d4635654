package node

import (
	"crypto/ed25519"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linecard.example/internal/wire"
)

var day = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sub", "keys")
	if err := InitKeys(dir, "prod", day); err != nil {
		t.Fatal(err)
	}
	if err := InitKeys(dir, "prod", day); !errors.Is(err, ErrKeysExist) {
		t.Fatalf("second init: %v", err)
	}
	if err := IssueKeys(dir, "gateway", day); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root.key", "ca.key", "gateway.key", "gateway.static"} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v, want mode 0600", name, st.Mode(), err)
		}
	}
	line, err := os.ReadFile(filepath.Join(dir, "root.pub"))
	if err != nil || !strings.HasPrefix(string(line), "linecard-root prod ") {
		t.Fatalf("root.pub %q %v", line, err)
	}
	_, root, err := wire.ParseRootLine(strings.TrimSpace(string(line)))
	if err != nil {
		t.Fatal(err)
	}
	static, cert, err := gatewayKeys(dir, "gateway", day)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := wire.VerifyCertificate(cert, static.Public, []ed25519.PublicKey{root}, "prod", day); err != nil {
		t.Fatal(err)
	}
	if _, err := linkTLS(dir, "gateway", day); err != nil {
		t.Fatal(err)
	}
	if _, _, err := gatewayKeys(dir, "gateway", day.Add(2*leafLifetime)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Fatalf("expired certificate: %v", err)
	}
}

func TestKeysBadInput(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if err := InitKeys(dir, "bad name", day); err == nil {
		t.Error("cluster name with a space was taken")
	}
	if err := IssueKeys(dir, "gateway", day); err == nil {
		t.Error("issued without a root")
	}
	if err := InitKeys(dir, "prod", day); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "root", "ca", "../x", "UPPER", strings.Repeat("a", 64)} {
		if err := IssueKeys(dir, name, day); err == nil {
			t.Errorf("issued keys for %q", name)
		}
	}
	if err := IssueKeys(dir, "g", day); err != nil {
		t.Fatal(err)
	}
	for _, damage := range []string{"", "nonsense", "linecard-static-key g !!!", "linecard-static-key g QUJD"} {
		if err := os.WriteFile(filepath.Join(dir, "g.static"), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := gatewayKeys(dir, "g", day); err == nil || !strings.Contains(err.Error(), "g.static") {
			t.Errorf("damaged key %q: %v, want the file's name", damage, err)
		}
	}
}

// TestExpiredLinkKeys: a certificate of links that nobody would take any more is refused before anything starts, and so is another's.
func TestExpiredLinkKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if err := InitKeys(dir, "prod", day); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"router-1", "router-2"} {
		if err := IssueKeys(dir, name, day); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		at   time.Duration
		want string
	}{{leafLifetime - time.Hour, ""}, {leafLifetime + time.Hour, "router-1.pem expired on "}, {caLifetime + leafLifetime, "router-1.pem expired on "}} {
		_, err := linkTLS(dir, "router-1", day.Add(c.at))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("after %v: %v", c.at, err)
		}
	}
	if err := IssueKeys(dir, "router-1", day.Add(caLifetime-time.Hour)); err != nil { // by an authority that is about to end
		t.Fatal(err)
	}
	if _, err := linkTLS(dir, "router-1", day.Add(caLifetime+time.Hour)); err == nil || !strings.Contains(err.Error(), "ca.pem expired on ") {
		t.Errorf("an old authority: %v", err)
	}
	for _, ext := range []string{".pem", ".key"} {
		content, err := os.ReadFile(filepath.Join(dir, "router-2"+ext))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "router-1"+ext), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := linkTLS(dir, "router-1", day); err == nil || !strings.Contains(err.Error(), "issued for \"router-2\"") {
		t.Errorf("another's certificate: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	first, err := readIdentity(dir)
	if err != nil || !first.new || first.id == 0 {
		t.Fatalf("first: %+v %v", first, err)
	}
	again, err := readIdentity(dir)
	if err != nil || !again.new || again.id != first.id {
		t.Fatalf("after a crash in the first start: %+v %v, want the same id, still new", again, err)
	}
	if err := again.settle(); err != nil {
		t.Fatal(err)
	}
	settled, err := readIdentity(dir)
	if err != nil || settled.new || settled.id != first.id {
		t.Fatalf("settled: %+v %v", settled, err)
	}
	for _, damage := range []string{"", "12", "zzzzzzzzzzzzzzzz\n", "0000000000000000\n", "00000000000000010\n"} {
		if err := os.WriteFile(filepath.Join(dir, "node"), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readIdentity(dir); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "node")) {
			t.Errorf("damaged %q: %v, want an error that names the file", damage, err)
		}
	}
}

func TestParseShards(t *testing.T) {
	for _, c := range []struct {
		list string
		want int
	}{{"", 16}, {"0-15", 16}, {"0-3,8", 5}, {"15", 1}, {"16", -1}, {"3-1", -1}, {"1,1", -1}, {"a", -1}, {"-1", -1}, {"0-", -1}, {",", -1}} {
		got, err := parseShards(c.list, 16)
		if (c.want < 0) != (err != nil) || (c.want >= 0 && len(got) != c.want) {
			t.Errorf("%q: %v %v", c.list, got, err)
		}
	}
}

// TestCertificateWarning: a process says in time that its certificate is about to expire.
func TestCertificateWarning(t *testing.T) {
	s := newSite(t)
	cfg := s.cfgs["gateway"]
	now := time.Now()
	cfg.Clock = func() time.Time { return now }
	n, err := New(cfg, []Role{Gateway}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	if w := texts(n.warnings(now)); len(w) > 0 {
		t.Errorf("fresh: %q", w)
	}
	if w := texts(n.warnings(now.Add(leafLifetime - renewBefore + time.Hour))); !has(w, "certificate: gateway.pem expires on ") {
		t.Errorf("in its last month: %q", w)
	}
}
