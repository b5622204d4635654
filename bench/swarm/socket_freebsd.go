package swarm

// latePort has nothing to ask for: FreeBSD chooses the port of a bound address at bind. net.inet.ip.portrange.first decides how many
// there are, and each address of 127.0.0.0/8 must be an alias of lo0.
func latePort(int) {}
