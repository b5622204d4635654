package turnd

import (
	"linecard.example/internal/link"
	"linecard.example/internal/wire"
)

// newEndpoint makes what is told the secrets of credentials by routers. They are kept in memory only, since who has them can make credentials: a
// turnd that starts while no router answers waits for one.
func (s *Server) newEndpoint() *link.Endpoint {
	info := link.Info{
		Role: link.RoleRelay, Node: s.deps.Node, Incarnation: s.deps.Incarnation, Shards: s.deps.Shards, Cluster: s.deps.Cluster, Region: s.deps.Region,
	}
	word := link.NewWord(link.KindRelaySecrets, s.hearSecrets, s.log)
	return link.NewEndpoint(info, word, link.Options{Credits: s.deps.LinkCredit, Board: s.deps.Board, Logger: s.log, Registerer: s.deps.Registerer})
}

// hearSecrets takes what a router tells. Without a router those that are there stay: credentials that are out are good until they expire.
func (s *Server) hearSecrets(payload []byte) error {
	secrets, err := wire.ParseRelaySecrets(payload)
	if err != nil {
		return err
	}
	if s.credentials.set(secrets) {
		s.log.Info("secrets of credentials", "newest", secrets[0].ID, "secrets", len(secrets))
	}
	return nil
}
