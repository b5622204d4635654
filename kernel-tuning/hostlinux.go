package tuning

// linuxHost are the knobs of a linux machine that are not TCP's.
var linuxHost = []Knob{
	{
		Name: "fs.nr_open", Group: "Open files", Need: Must, rule: atLeast, want: number(plan.nofile),
		Default: "1048576", Formula: "1.05 x sessions / workers + 256, in multiples of 65,536; workers = what 1,048,576 a process needs unless given",
		Why:    "The most that any process may be allowed to have open; no LimitNOFILE goes above it.",
		Cost:   "Nothing. A table of descriptors grows with the highest one in use: 8 B each.",
		Source: "kernel: Documentation/admin-guide/sysctl/fs.rst; fs/file.c (the table)",
	},
	{
		Name: "fs.file-max", Group: "Open files", Need: Must, rule: atLeast, want: number(plan.files),
		Default: "a tenth of memory, 1 KiB each: 2.4 M with 24 GiB; systemd raises it to the highest number at boot",
		Formula: "1.05 x sockets + 65,536; sockets = sessions, twice with the clients here",
		Why:     "All open files of the machine. At the limit accept fails for everybody, and a gateway's event engine ends at such an error.",
		Cost:    "Nothing until used, then the files themselves, which are in the 3.77 KB of a session.",
		Source:  "kernel: Documentation/admin-guide/sysctl/fs.rst, fs/file_table.c (files_maxfiles_init); 2,000,260 pairs needed it raised, gateway.md of the design",
	},
}
