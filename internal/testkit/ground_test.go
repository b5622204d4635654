package testkit

// ground is what the campaign of faults stands on: four machines, each with an address of its own where the system allows that, and a
// small disk under the members of the third. What cannot be had is said by cannot, for the faults that need it.
type ground struct {
	dir   string              // of the disks
	hosts map[string]string   // machine -> address; empty: all are on the loopback interface
	disks map[string]*ownDisk // member -> its disk
	why   map[string]string   // network, disk -> why it is not there
	rules int                 // of routing, that cut something off
}

// ownDisk is a file system of its own on a file.
type ownDisk struct {
	mount  string
	device string // MAJOR:MINOR
	group  string // directory of the control group that slows writes; "": none yet
}

// The machines are 1 to 3, with a router and an offline each, and one with the gateway.
const (
	gatewayMachine = "4"
	diskMachine    = "3"
)

// diskBytes is the size of the small disk: the floor is a quarter of it, the ballast a sixteenth.
const diskBytes = 256 << 20

// cannot says why a step of the campaign cannot be done here; "": it can.
func (g *ground) cannot(step string) string {
	switch step {
	case "machine cut off", "leader cut off from gateways", "not heard", "deaf":
		return g.why["network"]
	case "slow disk", "full disk":
		return g.why["disk"]
	case "clock", "expiry":
		return noClock
	}
	return ""
}

// machines returns the names of all machines.
func (g *ground) machines() []string { return []string{"1", "2", "3", gatewayMachine} }

// machine says where a process of the cluster runs.
func (g *ground) machine(process string) (m Machine) {
	on := gatewayMachine
	if process != "gateway" {
		on = machineOf(process)
	}
	if host := g.hosts[on]; host != "" {
		m.Host, m.Wrap = host, []string{"ip", "netns", "exec", "machine" + on}
	}
	if d := g.disks[process]; d != nil {
		m.Data = d.mount + "/data"
	}
	return m
}
