package tuning

// linuxTCP are the knobs of linux's network.
var linuxTCP = []Knob{
	{
		Name: "net.core.somaxconn", Group: "Accepting", Need: Should, rule: atLeast, spaced: true,
		want:    number(func(p plan) int64 { return clamp(powerOfTwo(int64(p.Sessions)/32), 4096, 65535) }),
		Default: "4096", Formula: "sessions / 32 as a power of two, 4,096 to 65,535",
		Why:  "The length of a listener's accept queue. In a reconnect storm connections arrive faster than a loop accepts; what finds the queue full is dropped and comes again a second later.",
		Cost: "A queued connection is a whole socket.", Source: "kernel: Documentation/admin-guide/sysctl/net.rst",
	},
}
