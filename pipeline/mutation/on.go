//go:build mutation

package mutation

import "os"

// active is the mistake of this process.
var active = Name(os.Getenv("KEYSTONE_MUTATION"))

// On tells whether the mistake is made.
func On(m Name) bool { return m == active }
