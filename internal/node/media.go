package node

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"

	"linecard.example/internal/config"
	"linecard.example/mediad"
)

// MediaOff in media.listen has `up` run without a mediad.
const MediaOff = "off"

// validateMedia checks the media section for the processes that read it.
func (c Config) validateMedia(f config.Faults, together bool) {
	f.Check(together || len(c.Links.Routers) > 0, "links.routers", "a mediad needs the addresses of the routers, which tell it what grants are verified with")
	if together && c.Media.Listen == MediaOff {
		return
	}
	f.Add(c.Media.Validate()...)
	host, _, err := net.SplitHostPort(c.Media.Listen)
	ip := net.ParseIP(host)
	f.Check(!together || err != nil || c.Gateway.MediaURL != "" || host != "" && (ip == nil || !ip.IsUnspecified()), "gateway.media_url",
		"clients are told where media.listen is, and %q is nowhere: want the address that they reach it at", c.Media.Listen)
}

// openMediaListener opens the listener of a mediad before any daemon: the gateway of `up` tells clients where it is.
func (n *Node) openMediaListener() (err error) {
	if !n.runs(Media) || n.together() && n.cfg.Media.Listen == MediaOff {
		return nil
	}
	if n.mediaLn, err = net.Listen("tcp", n.cfg.Media.Listen); err != nil {
		return fmt.Errorf("media listener: %w", err)
	}
	if n.together() && n.cfg.Gateway.MediaURL == "" {
		n.cfg.Gateway.MediaURL = n.MediaURL()
	}
	return nil
}

func (n *Node) openMedia(log *slog.Logger) (err error) {
	if n.mediaLn == nil {
		return nil
	}
	n.media, err = mediad.New(n.cfg.Media, mediad.Deps{
		Node: n.id.id, Incarnation: n.incarnation, Shards: n.cfg.Shards, Cluster: n.cfg.Cluster, Region: n.cfg.Region.Region(),
		LinkCredit: n.cfg.Links.Credit.Int(), Lines: n.cfg.Log.budget(), Board: n.board(), Dir: filepath.Join(n.cfg.Data, string(Media)), Logger: log, Registerer: n.reg, Clock: n.clock, Listener: n.mediaLn,
	})
	return err
}

// MediaURL is where the mediad of this process is, as its listener says; "" without one.
func (n *Node) MediaURL() string {
	switch {
	case n.mediaLn == nil:
		return ""
	case n.cfg.Media.TLSCert != "":
		return "https://" + n.mediaLn.Addr().String()
	}
	return "http://" + n.mediaLn.Addr().String()
}
