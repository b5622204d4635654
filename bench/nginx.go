package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// nginxConf is what nginx's manual recommends for files, with the DAV module's PUT: a worker for each core, sendfile, no log.
const nginxConf = `daemon off;
worker_processes auto;
pid DIR/nginx.pid;
error_log DIR/error.log warn;
events { worker_connections 4096; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	client_max_body_size 0;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
	keepalive_requests 1000000;
	default_type application/octet-stream;
	ssl_protocols TLSv1.3;
	ssl_certificate CERT;
	ssl_certificate_key KEY;
	server {
		listen PLAIN;
		listen TLS ssl;
		root DIR/files;
		location / { dav_methods PUT DELETE; create_full_put_path on; }
	}
}
`

// startNginx starts nginx below the system's directory, on its disk, and returns it without and with TLS.
func startNginx(ctx context.Context, exe string, s *system) ([]*webServer, error) {
	dir := filepath.Join(s.dir, "nginx")
	addrs, err := freeAddrs(2)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"files", "body"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o777); err != nil {
			return nil, fmt.Errorf("bench: nginx: %w", err)
		}
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;\n" // who would otherwise be nobody, and kept out of a directory for temporary files
	}
	conf := strings.NewReplacer("DIR", dir, "PLAIN", addrs[0], "TLS ssl", addrs[1]+" ssl", "CERT", s.tlsCert(), "KEY", s.tlsKey()).Replace(user + nginxConf)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("bench: nginx: %w", err)
	}
	cmd := exec.Command(exe, "-c", path, "-p", dir, "-e", filepath.Join(dir, "error.log"))
	cmd.SysProcAttr = endsWithUs()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: nginx: %w", err)
	}
	stop := func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return fmt.Errorf("bench: nginx: %w", err)
		}
		_ = cmd.Wait() // it was told to end
		return nil
	}
	if err := answers(ctx, addrs[0]); err != nil {
		return nil, fmt.Errorf("bench: nginx: %w, %w", err, stop())
	}
	server := func(key, name, base string, insecure bool) *webServer {
		w := &webServer{key: key, name: name, client: webClient(insecure), root: func() int { return cmd.Process.Pid }}
		path := func(f *webFile) string { return key + strconv.FormatUint(f.number, 10) }
		w.putURL = func(f *webFile) (string, error) { return base + path(f), nil }
		w.getURL = w.putURL
		w.remove = func(_ context.Context, f *webFile) error { return os.Remove(filepath.Join(dir, "files", path(f))) }
		return w
	}
	plain := server("nginx", "nginx", "http://"+addrs[0]+"/", false)
	plain.closeServer = stop
	return []*webServer{plain, server("nginx_tls", "nginx, TLS", "https://"+addrs[1]+"/", true)}, nil
}

// answers waits until somebody listens.
func answers(ctx context.Context, addr string) error {
	for end := time.Now().Add(stopLimit); ; time.Sleep(pollEvery) { // another process: it can only be asked again
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return err
		}
	}
}
