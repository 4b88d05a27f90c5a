sink "stdot" "out" {} # ERROR: Unknown sink kind

stream "s" {
  for_each = 5 # ERROR: for_each takes
}

stream "x" {}

route "a" {
  from = stream.x
  to   = sink.out
}

route "b" {
  from = stream.s["a"]
  to   = sink.out
}

moved {
  from = stream.old
  to   = stream.s
}

variable "unset" {} # ERROR: has no default

locals {
  wrong = nosuch(1) # ERROR: There is no function "nosuch"
}

sink "stdout" "fine" {
  urls = [var.unset, local.wrong]
}

route "c" {
  from   = stream.x
  filter = "a == var.unset && b == local.wrong"
  to     = sink.fine
}
