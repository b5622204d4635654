package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"linecard.example/internal/link"
	"linecard.example/internal/roster"
)

// The commands of operators who run several machines. They read the configuration of a daemon on the machine where they run: what the
// cluster is called, where its routers are, and keys.

// InitCluster makes the data directory of cfg, a router's, the first of a new cluster with so many replicas of each group. The process must
// not run. A directory that a router used alone becomes the first of a cluster with its data.
func InitCluster(cfg Config, voters int) (*roster.Roster, error) {
	if err := fresh(cfg.Data); err != nil {
		return nil, err
	}
	if _, err := cfg.checkFacts(); err != nil {
		return nil, err
	}
	if _, err := heldAlone(cfg, Router, nil); err != nil {
		return nil, err
	}
	id, err := makeIdentity(cfg.Data)
	if err != nil {
		return nil, err
	}
	r, why := roster.Found(randomID(), voters, cfg.member(id.id, Router))
	if why != roster.Done {
		return nil, errors.New(why.String())
	}
	return r, writeRoster(cfg.Data, r)
}

// fresh refuses a directory that belongs to a cluster.
func fresh(dir string) error {
	r, err := readRoster(dir)
	if err == nil && r != nil {
		err = fmt.Errorf("data directory %s is in a cluster already, that was founded as %s", dir, nodeName(r.Cluster))
	}
	return err
}

// LeaveCluster has the member of that name leave: its replicas go to others, and then it can be stopped. A dead one is replaced so.
func LeaveCluster(ctx context.Context, cfg Config, name string, log *slog.Logger) error {
	conf, err := cfg.operatorTLS()
	if err != nil {
		return err
	}
	a := newEnquirer(&cfg, randomID(), randomID(), link.NewBoard(), log, nil)
	defer a.begin(conf)()
	why, err := a.ask(ctx, link.KindLeave, []byte(name))
	if err == nil && why != roster.Done {
		err = errors.New(why.String())
	}
	if err != nil {
		return fmt.Errorf("leave %s: %w", name, err)
	}
	return nil
}

// operatorTLS returns keys to speak to routers with: those of whatever daemon has its own here.
func (c Config) operatorTLS() (*tls.Config, error) {
	if c.Links.Name != "" {
		return linkTLS(c.keyDir(), c.Links.Name, time.Now())
	}
	var errs []error
	for _, role := range []Role{Router, Offline, Gateway, Border, Media, Relay} {
		conf, err := linkTLS(c.keyDir(), string(role), time.Now())
		if err == nil {
			return conf, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// linkName is a daemon's name among the keys.
func (c Config) linkName(role Role) string {
	if c.Links.Name != "" {
		return c.Links.Name
	}
	return string(role)
}

// member is what a process of this configuration is in the roster.
func (c Config) member(node uint64, role Role) roster.Member {
	m := roster.Member{Node: node, Name: c.linkName(role), Role: rosterRole(role), State: roster.Active, Link: c.Links.Listen, Raft: c.Raft.Listen}
	if c.Links.Advertise != "" {
		m.Link = c.Links.Advertise
	}
	if c.Raft.Advertise != "" {
		m.Raft = c.Raft.Advertise
	}
	return m
}
