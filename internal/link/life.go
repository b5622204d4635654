package link

import "time"

// flushTime bounds how long an orderly end waits for what is pending.
const flushTime = time.Second

// up opens the stream for its Handler.
func (s *Stream) up() {
	s.metrics.up()
	s.ep.log.Info("stream up", "peer", s.peer.Role.String(), "node", s.peer.Node, "stream", s.id, "incoming", s.incoming)
	s.gate.Lock()
	defer s.gate.Unlock()
	s.ep.handler.Up(s)
	s.open = true
}

// down closes the stream for its Handler: no Receive after it. The caller has called fail.
func (s *Stream) down() {
	if n := s.out.close(); n > 0 {
		s.metrics.droppedPending(n)
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	if !s.open {
		return
	}
	s.open = false
	s.metrics.down()
	s.ep.log.Info("stream down", "peer", s.peer.Role.String(), "node", s.peer.Node, "stream", s.id, "err", s.failErr)
	s.ep.handler.Down(s, s.failErr)
}
