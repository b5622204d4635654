package tuning

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnitsVerify has systemd look at the printed units, where it is installed. The binary is replaced by one that exists.
func TestUnitsVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here")
	}
	units, err := filepath.Glob("testdata/linux/etc/systemd/system/*.service")
	if err != nil || len(units) != 5 {
		t.Fatal(units, err)
	}
	dir, args := t.TempDir(), []string{"verify"}
	for _, u := range units {
		text, err := os.ReadFile(u)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Base(u))
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/linecard ", "/bin/true ")), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	out, err := exec.Command(analyze, args...).CombinedOutput()
	for line := range strings.Lines(string(out)) { // it also tells about units of the machine
		if strings.Contains(line, "linecard") {
			t.Error(line)
		}
	}
	if err != nil && t.Failed() {
		t.Error(err)
	}
}

const fakeEthtool = `#!/bin/sh
echo "$@" >>"$LINECARD_ROOT/calls"
case $1 in
-l) printf 'Channel parameters for %s:\nPre-set maximums:\nRX:\t\tn/a\nCombined:\t$COMBINED\nCurrent hardware settings:\nRX:\t\tn/a\nCombined:\t1\n' "$2" ;;
-g) printf 'Ring parameters for %s:\nPre-set maximums:\nRX:\t\t8192\nTX:\t\t8192\nCurrent hardware settings:\nRX:\t\t512\n' "$2" ;;
esac
`

// networkScript runs the printed script against a copy of /sys with so many cores and queues, and returns that copy.
func networkScript(t *testing.T, cores, queues string, combined string) string {
	t.Helper()
	files := map[string]string{
		"bin/nproc":                     "#!/bin/sh\necho " + cores + "\n",
		"bin/ethtool":                   strings.ReplaceAll(fakeEthtool, "$COMBINED", combined),
		"proc/irq/30/smp_affinity_list": "", "proc/irq/31/smp_affinity_list": "", "proc/irq/32/smp_affinity_list": "",
		"sys/class/net/eth9/device/msi_irqs/30": "", "sys/class/net/eth9/device/msi_irqs/31": "", "sys/class/net/eth9/device/msi_irqs/32": "",
	}
	for _, q := range strings.Fields(queues) {
		files["sys/class/net/eth9/queues/rx-"+q+"/rps_cpus"] = "old"
		files["sys/class/net/eth9/queues/tx-"+q+"/xps_cpus"] = "old"
	}
	root := fakeRoot(t, files)
	for _, name := range []string{"bin/nproc", "bin/ethtool"} {
		if err := os.Chmod(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "testdata/linux/usr/local/sbin/linecard-network", "eth9")
	cmd.Env = append(os.Environ(), "LINECARD_ROOT="+root, "PATH="+filepath.Join(root, "bin")+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v %s", err, out)
	}
	return root
}

func TestNetworkScript(t *testing.T) {
	const queues = "sys/class/net/eth9/queues/"
	few := networkScript(t, "40", "0 1", "2") // fewer queues than cores: packets are spread over all 40
	for name, want := range map[string]string{
		queues + "rx-0/rps_cpus": "000000ff,ffffffff", queues + "rx-1/rps_cpus": "000000ff,ffffffff",
		queues + "tx-0/xps_cpus": "00000001", queues + "tx-1/xps_cpus": "00000002",
		"proc/irq/30/smp_affinity_list": "0", "proc/irq/32/smp_affinity_list": "2",
		"calls": "-l eth9\n-L eth9 combined 2\n-g eth9\n-G eth9 rx 4096",
	} {
		if got := readFake(t, few, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	many := networkScript(t, "2", "0 1", "64") // as many queues as cores: the card does it
	for name, want := range map[string]string{
		queues + "rx-0/rps_cpus": "0", queues + "tx-1/xps_cpus": "00000002", "proc/irq/32/smp_affinity_list": "0",
		"calls": "-l eth9\n-L eth9 combined 2\n-g eth9\n-G eth9 rx 4096",
	} {
		if got := readFake(t, many, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
