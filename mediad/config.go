package mediad

import (
	"net"
	"net/url"
	"strings"
	"time"

	"linecard.example/internal/config"
)

// Config is the media section of a configuration. The zero value is not valid: start from DefaultConfig.
type Config struct {
	// Listen is where HTTP clients connect, HOST:PORT. Default 127.0.0.1:7402.
	Listen string `toml:"listen"`
	// TLSCert and TLSKey are PEM files of a certificate chain and its key. Without them the listener speaks plain HTTP/1.1: for a proxy in
	// front that ends TLS, never for a public address. They are read again when they change.
	TLSCert string `toml:"tls_cert"`
	TLSKey  string `toml:"tls_key"`
	// CORSOrigins are the web origins whose pages may use the listener (https://chat.example.com), or "*". Default: none.
	CORSOrigins []string `toml:"cors_origins"`

	// Store is where blobs are kept: "disk", below the data directory, or "s3". Default disk. Unfinished uploads are on disk always.
	Store string `toml:"store"`
	// S3 is the bucket, for store = "s3".
	S3 S3Config `toml:"s3"`
	// Retention is how long a reference to a blob lasts, from when it was made or renewed. Default 720h (30 days). Receivers that were
	// away longer than this find nothing.
	Retention config.Duration `toml:"retention"`
	// UploadLife is how long an upload lasts after its last byte; the record of a finished one too. Default 24h.
	UploadLife config.Duration `toml:"upload_life"`
	// Sweep is the time between two passes of expiry. Default 1h.
	Sweep config.Duration `toml:"sweep"`
	// Quota is what one account's references and unfinished uploads may come to. Default 10GiB.
	Quota config.Size `toml:"quota"`
	// MaxUpload is the largest blob, whatever a grant allows. Default 2GiB.
	MaxUpload config.Size `toml:"max_upload"`
	// FreeSpace is what uploads leave free on the data directory's file system. Default 1GiB.
	FreeSpace config.Size `toml:"free_space"`
	// AccountUploads is how many unfinished uploads one account may have. Default 64.
	AccountUploads int `toml:"account_uploads"`

	// Connections is how many there may be; more are closed at once. Default 8192. Each costs about 20 KiB while it is used, over TLS twice
	// that.
	Connections int `toml:"connections"`
	// SourceConnections is the same for one source (IPv4 address, IPv6 /56). Default 512; raise it to connections behind a proxy or CDN.
	SourceConnections int `toml:"source_connections"`
	// Requests is how many may be under way; more are answered 503. Default 8192.
	Requests int `toml:"requests"`
	// AccountRequests is the same for one account, answered 429. Default 32.
	AccountRequests int `toml:"account_requests"`
	// HeaderTimeout is how long a request's header may take from its first byte, and a TLS handshake. Default 10s.
	HeaderTimeout config.Duration `toml:"header_timeout"`
	// IdleTimeout is how long a connection without a request stays. Default 1m.
	IdleTimeout config.Duration `toml:"idle_timeout"`
	// Stall is how long a transfer may stand still. Default 30s.
	Stall config.Duration `toml:"stall"`
	// MinRate is the slowest transfer in bytes per second, over any Stall: slower ones are ended. Default 1KiB.
	MinRate config.Size `toml:"min_rate"`
	// Drain is how long requests may go on after the end was asked for; then uploads are cut where they are, to be resumed. Default 10s.
	Drain config.Duration `toml:"drain"`
	// Buffers is the memory for bodies that are being taken in, above 512 bytes for each. Default 1536KiB, 24 of 64 KiB. Raising it spares
	// system calls when more bodies than that come in fast at once, if the disk keeps up.
	Buffers config.Size `toml:"buffers"`
	// HTTP2Window is what an HTTP/2 connection may have sent and nobody read yet. Default 128KiB. Raising it makes uploads over long fat links faster, and costs as
	// much for every such connection when the disk is slow.
	HTTP2Window config.Size `toml:"http2_window"`
}

// S3Config names a bucket of an S3-compatible store. One mediad owns what is below Prefix.
type S3Config struct {
	// Endpoint is HOST or HOST:PORT.
	Endpoint string `toml:"endpoint"`
	// Plain speaks HTTP without TLS, for a store on the same machine. Default false.
	Plain bool `toml:"plain"`
	// Region is the bucket's region. Default us-east-1.
	Region string `toml:"region"`
	// Bucket must exist.
	Bucket string `toml:"bucket"`
	// Prefix is put before the names of all objects, as "linecard/". Default none.
	Prefix string `toml:"prefix"`
	// AccessKeyFile and SecretKeyFile hold the credentials, a line each.
	AccessKeyFile string `toml:"access_key_file"`
	SecretKeyFile string `toml:"secret_key_file"`
	// PathStyle puts the bucket into the path instead of the host's name. Default true: it works with every store.
	PathStyle bool `toml:"path_style"`
	// PartSize is how big the parts of a multipart upload are; each one under way is in memory. Default 8MiB.
	PartSize config.Size `toml:"part_size"`
	// Timeout is how long one call may stand still. Default 30s.
	Timeout config.Duration `toml:"timeout"`
}

const day = 24 * time.Hour

// The stores.
const (
	StoreDisk = "disk"
	StoreS3   = "s3"
)

// DefaultConfig returns the defaults that `up` runs with.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:7402", Store: StoreDisk,
		S3:        S3Config{Region: "us-east-1", PathStyle: true, PartSize: 8 << 20, Timeout: config.Duration(30 * time.Second)},
		Retention: config.Duration(30 * day), UploadLife: config.Duration(day), Sweep: config.Duration(time.Hour),
		Quota: 10 << 30, MaxUpload: 2 << 30, FreeSpace: 1 << 30, AccountUploads: 64,
		Connections: 8192, SourceConnections: 512, Requests: 8192, AccountRequests: 32,
		HeaderTimeout: config.Duration(10 * time.Second), IdleTimeout: config.Duration(time.Minute),
		Stall: config.Duration(30 * time.Second), MinRate: 1 << 10, Drain: config.Duration(10 * time.Second),
		Buffers: 1536 << 10, HTTP2Window: 128 << 10,
	}
}

// Validate returns every fault of c, nil when there is none.
func (c Config) Validate() []error {
	f := config.NewFaults("media.")
	_, _, err := net.SplitHostPort(c.Listen)
	f.Check(err == nil, "listen", "%q: want HOST:PORT", c.Listen)
	f.Check((c.TLSCert == "") == (c.TLSKey == ""), "tls_cert", "want tls_cert and tls_key, or neither")
	for _, o := range c.CORSOrigins {
		f.Check(o == "*" || validOrigin(o), "cors_origins", "%q: want SCHEME://HOST or *", o)
	}
	f.Check(c.Store == StoreDisk || c.Store == StoreS3, "store", "%q: want disk or s3", c.Store)
	if c.Store == StoreS3 {
		c.S3.validate(f)
	}
	f.Span("retention", c.Retention, time.Minute, 3660*day)
	f.Span("upload_life", c.UploadLife, time.Minute, 90*day)
	f.Span("sweep", c.Sweep, time.Second, 7*day)
	f.Size("quota", c.Quota, 1<<20, 1<<50)
	f.Size("max_upload", c.MaxUpload, 1<<10, 1<<40)
	f.Size("free_space", c.FreeSpace, 0, 1<<50)
	f.Count("account_uploads", c.AccountUploads, 1, 1<<16)
	f.Count("connections", c.Connections, 16, 1<<20)
	f.Count("source_connections", c.SourceConnections, 1, 1<<20)
	f.Count("requests", c.Requests, 16, 1<<20)
	f.Count("account_requests", c.AccountRequests, 1, 1<<20)
	f.Span("header_timeout", c.HeaderTimeout, 100*time.Millisecond, 10*time.Minute)
	f.Span("idle_timeout", c.IdleTimeout, 100*time.Millisecond, time.Hour)
	f.Span("stall", c.Stall, 100*time.Millisecond, 10*time.Minute)
	f.Size("min_rate", c.MinRate, 1, 1<<30)
	f.Span("drain", c.Drain, 0, 10*time.Minute)
	f.Size("buffers", c.Buffers, bigBuffer, 16<<30)
	f.Size("http2_window", c.HTTP2Window, 64<<10, 4<<20-1)
	return f.List()
}

func (s S3Config) validate(f config.Faults) {
	f.Check(s.Endpoint != "" && !strings.Contains(s.Endpoint, "/"), "s3.endpoint", "%q: want HOST or HOST:PORT", s.Endpoint)
	f.Check(s.Bucket != "", "s3.bucket", "want the bucket's name")
	f.Check(s.AccessKeyFile != "", "s3.access_key_file", "want a file")
	f.Check(s.SecretKeyFile != "", "s3.secret_key_file", "want a file")
	f.Size("s3.part_size", s.PartSize, 5<<20, 1<<30)
	f.Span("s3.timeout", s.Timeout, time.Second, 10*time.Minute)
}

// validOrigin reports whether o is an origin as browsers send it: nothing after the host and the port.
func validOrigin(o string) bool {
	u, err := url.Parse(o)
	return err == nil && u.Scheme != "" && u.Host != "" && u.Scheme+"://"+u.Host == o
}
