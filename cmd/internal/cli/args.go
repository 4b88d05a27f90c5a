package cli

import "strings"

// takesValue tells of a flag whether its value may be the next argument; ok
// is false for a name that is no flag.
type takesValue func(name string) (value, ok bool)

// normalise gives a command line in the form that the flag parser knows: the
// command, its flags with two dashes, and after "--" its arguments. So
// Terraform's -flag works as --flag does, before or after the arguments; "-" alone and
// numbers such as -1.5 are arguments; the value of a flag is left as it is.
//
// The command of a group, such as dead-letters, is two words; group tells.
func normalise(args []string, takes takesValue, group func(string) bool) []string {
	var flags, words []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			words = append(words, args[i+1:]...)
			break
		}
		name, ok := flagName(a)
		if !ok {
			words = append(words, a)
			continue
		}
		flags = append(flags, "--"+name)
		name, _, assigned := strings.Cut(name, "=")
		if value, known := takes(name); known && value && !assigned && i+1 < len(args) {
			i++
			flags = append(flags, args[i])
		}
	}
	if len(words) == 0 {
		return flags
	}
	n := 1
	if group(words[0]) && len(words) > 1 {
		n = 2
	}
	out := append(append([]string{}, words[:n]...), flags...)
	if len(words) > n {
		out = append(append(out, "--"), words[n:]...)
	}
	return out
}

// flagName gives what follows the dashes of a flag. Names begin with a
// letter: -1.5 and -.5 are numbers. -h is what everyone tries first.
func flagName(a string) (string, bool) {
	if a == "-h" {
		return "help", true
	}
	if !strings.HasPrefix(a, "-") {
		return "", false
	}
	name := strings.TrimPrefix(a[1:], "-")
	if name == "" || !(name[0] >= 'a' && name[0] <= 'z' || name[0] >= 'A' && name[0] <= 'Z') {
		return "", false
	}
	return name, true
}
