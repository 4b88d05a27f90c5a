package cli

import "strings"

// takesValue tells of a flag whether its value may be the next argument; ok
// is false for a name that is no flag.
type takesValue func(name string) (value, ok bool)

// normalise gives a command line in the form that the flag parser knows: the
// command, its flags with two dashes, and after "--" its arguments. So
// Terraform's -flag works as --flag does, before or after the arguments; "-" alone and
// numbers such as -1.5 are arguments; the value of a flag is left as it is.
func normalise(args []string, takes takesValue) []string {
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
	out := append([]string{words[0]}, flags...)
	if len(words) > 1 {
		out = append(append(out, "--"), words[1:]...)
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
