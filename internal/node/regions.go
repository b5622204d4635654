package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/thejerf/suture/v4"

	"linecard.example/border"
	"linecard.example/internal/config"
	"linecard.example/internal/link"
	"linecard.example/internal/stanza"
)

// bordered reports whether this process has a border: one of its own, or `up` with other regions.
func (n *Node) bordered() bool { return n.runs(Border) || n.together() && n.cfg.Region.Linked() }

// validateRegion checks the region section for the daemons that read it.
func (c Config) validateRegion(f config.Faults, roles ...Role) {
	f.Add(c.Region.Validate()...)
	f.Check(len(roles) != 1 || roles[0] != Border || c.Region.Linked(), "region.peers", "a border needs the regions that it is for")
}

// borderWorker is the border's number among the workers of its node: queues know it as they know gateways, and `up` has one of those too.
const borderWorker = 1<<16 - 1

// openBorder makes the border and the listener for other regions.
func (n *Node) openBorder() error {
	authorities := map[stanza.Region][]*x509.Certificate{}
	var errs []error
	n.cfg.Region.Each(func(r stanza.Region, p border.Peer) {
		all, err := readAuthority(p.CA)
		if err != nil {
			errs = append(errs, fmt.Errorf("region %d: %w", r, err))
		}
		authorities[r] = all
	})
	own, err := linkTLS(n.cfg.keyDir(), n.name(), n.clock())
	if err = errors.Join(append(errs, err)...); err != nil {
		return err
	}
	n.border, err = border.New(n.cfg.Region, border.Deps{
		Node: n.id.id, Incarnation: link.NewIncarnation(borderWorker, randomID()), Shards: n.cfg.Shards, Cluster: n.cfg.Cluster, Logger: n.log.With("daemon", string(Border)),
		Registerer: n.reg, Clock: n.clock, LinkCredit: n.cfg.Links.Credit.Int(), Board: n.board(), Authorities: authorities,
	})
	if err != nil {
		return err
	}
	n.regionTLS = map[stanza.Region]*tls.Config{}
	everybody := x509.NewCertPool()
	for r, all := range authorities {
		conf := own.Clone()
		conf.RootCAs = x509.NewCertPool()
		for _, ca := range all {
			conf.RootCAs.AddCert(ca)
			everybody.AddCert(ca)
		}
		n.regionTLS[r] = conf
	}
	if n.cfg.Region.Listen == "" {
		return nil
	}
	n.regionServer = own.Clone()
	n.regionServer.ClientCAs = everybody
	if n.regionLn, err = net.Listen("tcp", n.cfg.Region.Listen); err != nil {
		return fmt.Errorf("region listener: %w", err)
	}
	return nil
}

// readAuthority reads another region's certificate authority, one certificate or several.
func readAuthority(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !cert.IsCA {
			return nil, fmt.Errorf("%s: not the certificate of an authority", path)
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return all, nil
}

// addRegions adds the links to other regions.
func (n *Node) addRegions(sup *suture.Supervisor) {
	if n.border == nil {
		return
	}
	if n.regionLn != nil {
		sup.Add(&listenService{ln: n.regionLn, serve: link.NewServer(n.regionServer, n.border.Abroad()).Serve})
	}
	n.cfg.Region.Each(func(r stanza.Region, p border.Peer) {
		for _, addr := range p.Addrs {
			sup.Add(regionDial{n.border.Abroad(), addr, n.regionTLS[r]})
		}
	})
}

// regionDial keeps one stream to a border of another region up.
type regionDial struct {
	from *link.Endpoint
	addr string
	conf *tls.Config
}

func (s regionDial) Serve(ctx context.Context) error {
	s.from.Dial(ctx, s.addr, link.RoleRegion, s.conf)
	return ctx.Err()
}

// RegionAddr is where borders of other regions connect; nil where they do not.
func (n *Node) RegionAddr() net.Addr {
	if n.regionLn == nil {
		return nil
	}
	return n.regionLn.Addr()
}
