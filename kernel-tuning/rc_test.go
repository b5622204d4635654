package tuning

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeSubr stands for freebsd's rc.subr: it shows what a script would start, and runs the command of the script's own.
const fakeSubr = `load_rc_config() { . "$LINECARD_ROOT/rc.conf"; }
install() { echo "install $*"; }
wait_for_pids() { echo "waits for $*"; }
run_rc_command() {
	childfile=$LINECARD_ROOT/child.pid
	case $1 in
	start)
		eval "enabled=\$$rcvar"
		eval "dir=\$${name}_chdir"
		echo "$enabled|$dir|$pidfile|$required_files|$command $command_args"
		program="echo" && $start_precmd
		;;
	stop)
		$stop_precmd && : >"$childfile" && $stop_postcmd # daemon(8) has removed the file by then
		;;
	*) eval "$(eval echo "\$${1}_cmd")" ;;
	esac
}
`

// runRC runs a printed rc.d script with the stand-in and the given rc.conf.
func runRC(t *testing.T, script, conf, verb, child string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/freebsd/usr/local/etc/rc.d", script))
	if err != nil {
		t.Fatal(err)
	}
	root := fakeRoot(t, map[string]string{"rc.subr": fakeSubr, "rc.conf": conf, "child.pid": child})
	changed := strings.ReplaceAll(string(text), ". /etc/rc.subr\n", `. "$LINECARD_ROOT/rc.subr"`+"\n")
	if changed == string(text) {
		t.Fatalf("%s does not read rc.subr", script)
	}
	cmd := exec.Command("sh", "-s", verb)
	cmd.Stdin, cmd.Env = strings.NewReader(changed), append(os.Environ(), "LINECARD_ROOT="+root)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v %s", script, verb, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestRCScripts(t *testing.T) {
	for _, c := range []struct{ role, conf, want string }{
		{"gateway", "", "NO|/var/db/linecard/gateway|/var/run/linecard_gateway.pid|/usr/local/etc/linecard/gateway.toml|/usr/sbin/daemon -f -r -R 1 " +
			"-P /var/run/linecard_gateway.pid -p /var/run/linecard_gateway.child.pid -S -T linecard_gateway -u linecard " +
			"/usr/local/bin/linecard gateway --config /usr/local/etc/linecard/gateway.toml\n" +
			"install -d -o linecard -m 0700 /var/db/linecard/gateway\ncheck --config /usr/local/etc/linecard/gateway.toml --role gateway"},
		{"router", "linecard_router_enable=YES linecard_router_config=/r.toml linecard_router_runas=r linecard_router_chdir=/data/r",
			"YES|/data/r|/var/run/linecard_router.pid|/r.toml|/usr/sbin/daemon -f -r -R 1 " +
				"-P /var/run/linecard_router.pid -p /var/run/linecard_router.child.pid -S -T linecard_router -u r " +
				"/usr/local/bin/linecard router --config /r.toml \ninstall -d -o r -m 0700 /data/r\ncheck --config /r.toml --role router"},
		{"offline", "linecard_offline_enable=YES linecard_offline_args=--bootstrap",
			"YES|/var/db/linecard/offline|/var/run/linecard_offline.pid|/usr/local/etc/linecard/offline.toml|/usr/sbin/daemon -f -r -R 1 " +
				"-P /var/run/linecard_offline.pid -p /var/run/linecard_offline.child.pid -S -T linecard_offline -u linecard " +
				"/usr/local/bin/linecard offline --config /usr/local/etc/linecard/offline.toml --bootstrap\n" +
				"install -d -o linecard -m 0700 /var/db/linecard/offline\ncheck --config /usr/local/etc/linecard/offline.toml --role offline"},
		{"mediad", "linecard_mediad_enable=YES",
			"YES|/var/db/linecard/mediad|/var/run/linecard_mediad.pid|/usr/local/etc/linecard/mediad.toml|/usr/sbin/daemon -f -r -R 1 " +
				"-P /var/run/linecard_mediad.pid -p /var/run/linecard_mediad.child.pid -S -T linecard_mediad -u linecard " +
				"/usr/local/bin/linecard mediad --config /usr/local/etc/linecard/mediad.toml\n" +
				"install -d -o linecard -m 0700 /var/db/linecard/mediad\ncheck --config /usr/local/etc/linecard/mediad.toml --role mediad"},
		{"turnd", "linecard_turnd_enable=YES linecard_turnd_chdir=/data/t",
			"YES|/data/t|/var/run/linecard_turnd.pid|/usr/local/etc/linecard/turnd.toml|/usr/sbin/daemon -f -r -R 1 " +
				"-P /var/run/linecard_turnd.pid -p /var/run/linecard_turnd.child.pid -S -T linecard_turnd -u linecard " +
				"/usr/local/bin/linecard turnd --config /usr/local/etc/linecard/turnd.toml\n" +
				"install -d -o linecard -m 0700 /data/t\ncheck --config /usr/local/etc/linecard/turnd.toml --role turnd"},
	} {
		if got := runRC(t, "linecard_"+c.role, c.conf, "start", ""); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.role, got, c.want)
		}
		if got := runRC(t, "linecard_"+c.role, c.conf, "stop", "4711\n"); got != "waits for 4711" {
			t.Errorf("stop of %s: %q", c.role, got)
		}
	}
}

// TestRCReload: a reload hangs the supervisor up, and nobody else. The stand-in is a shell that says so.
func TestRCReload(t *testing.T) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP) // under nohup children would ignore it, and a shell cannot trap what it was started to ignore
	defer signal.Stop(caught)
	child := exec.Command("sh", "-c", `trap 'echo hung up; exit 0' HUP; echo $$; while :; do sleep 0.05; done`)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(time.Minute, func() { _ = child.Process.Kill() }).Stop()
	defer child.Process.Kill()
	buf := make([]byte, 64)
	n, err := out.Read(buf) // its pid: the trap is set
	if err != nil {
		t.Fatal(err)
	}
	if got := runRC(t, "linecard_gateway", "", "reload", string(buf[:n])); got != "" {
		t.Errorf("reload said %q", got)
	}
	n, err = out.Read(buf)
	if err != nil || string(buf[:n]) != "hung up\n" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}
