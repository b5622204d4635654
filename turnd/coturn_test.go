package turnd

import (
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestCoturnClient: coturn's client over each transport, by channels, by Send indications, with pairs of ports, and from relay to relay.
// LINECARD_INTEROP=1, as in CI, makes it fail where it cannot run.
func TestCoturnClient(t *testing.T) {
	if os.Getenv("LINECARD_INTEROP") == "" {
		t.Log("NOT RUN against coturn's client: it takes half a minute")
		return
	}
	cfg := allConfig(t)
	cfg.AccountAllocations = 1000
	s := start(t, cfg, Deps{})
	first := echoes(t)
	port := func(a net.Addr) string {
		_, port, _ := net.SplitHostPort(a.String())
		return port
	}
	t.Run("all", func(t *testing.T) {
		for transport, how := range map[string]string{"udp": "", "tcp": "-t", "tls": "-t -S", "dtls": "-S"} {
			for mode, what := range map[string]string{"channels": "-c", "indications": "-c -s", "pairs": "", "relay to relay": "-c -y"} {
				t.Run(transport+" "+mode, func(t *testing.T) {
					t.Parallel()
					args := strings.Fields("-u anna -w secret-a -e 127.0.0.1 -n 20 -m 2 -l 200 -z 10 " + how + " " + what)
					args = append(args, "-p", port(s.Addrs(transport)[0]), "-r", first, "127.0.0.1")
					out, err := exec.Command("turnutils_uclient", args...).CombinedOutput()
					done := sent.FindAllSubmatch(out, -1)
					if err != nil || len(done) == 0 || string(done[len(done)-1][1]) != string(done[len(done)-1][2]) || string(done[len(done)-1][1]) == "0" {
						t.Errorf("turnutils_uclient %s: %v\n%s", strings.Join(args, " "), err, out)
					}
				})
			}
		}
	})
}

// echoes sends back what comes to two ports that follow each other, as RTP and RTCP have them, and returns the first one.
func echoes(t *testing.T) string {
	for {
		p := newPeer(t)
		next, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(p.addr().Port()) + 1})
		if err != nil {
			continue
		}
		t.Cleanup(func() { next.Close() })
		for _, c := range []*net.UDPConn{p.conn, next} {
			go func() {
				b := make([]byte, 2048)
				for {
					n, from, err := c.ReadFromUDPAddrPort(b)
					if err != nil {
						return
					}
					c.WriteToUDPAddrPort(b[:n], from)
				}
			}()
		}
		return strconv.Itoa(int(p.addr().Port()))
	}
}

var sent = regexp.MustCompile(`start_mclient: tot_send_msgs=(\d+), tot_recv_msgs=(\d+)\n`)
