package turnd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestWebRTC: two peers of a WebRTC stack that others wrote, which may use relays only, move 1 MiB each way over a data channel, by each
// transport. The stack is a program and a module of its own (testdata/webrtc), so what it needs is not linecard's. LINECARD_INTEROP=1, as in
// CI, makes it fail where its modules are not to be had.
func TestWebRTC(t *testing.T) {
	program := buildWebRTC(t)
	for transport, url := range map[string]string{"udp": "turn:%s?transport=udp", "tcp": "turn:%s?transport=tcp", "tls": "turns:%s?transport=tcp", "dtls": "turns:%s?transport=udp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			all, cfg := allConfig(t), testConfig()
			cfg.UDP, cfg.TLSCert, cfg.TLSKey = nil, all.TLSCert, all.TLSKey
			switch transport { // and no other one, so that there is no other way
			case "udp":
				cfg.UDP = all.UDP
			case "tcp":
				cfg.TCP = all.TCP
			case "tls":
				cfg.TLS = all.TLS
			case "dtls":
				cfg.DTLS = all.DTLS
			}
			reg := prometheus.NewRegistry()
			s := start(t, cfg, Deps{Registerer: reg})
			out := runWebRTC(t, program, cfg.TLSCert, fmt.Sprintf(url, s.Addrs(transport)[0]), "anna", "secret-a")
			if out != "relay relay 1048576\n" {
				t.Errorf("the peers say %q", out)
			}
			for _, to := range []string{"peer", "client"} { // from relay to relay: what one of them sends to its peer, the other one's client gets
				if n := relayed(t, reg, to); n < 2<<20 {
					t.Errorf("%v bytes were relayed to the %s, want what both sent", n, to)
				}
			}
		})
	}
}

// buildWebRTC returns the program.
func buildWebRTC(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "webrtc")
	build := exec.Command("go", "build", "-C", filepath.Join("testdata", "webrtc"), "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("LINECARD_INTEROP") != "" {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Skipf("its modules are not here; with LINECARD_INTEROP=1, as in CI, that fails: %v\n%s", err, out)
	}
	return program
}

// runWebRTC runs it with a certificate that it trusts, and returns what it says.
func runWebRTC(t *testing.T, program, cert string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience) // its own limits come first
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+cert) // it has no option to pass over certificates, and need not
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	return out.String()
}
