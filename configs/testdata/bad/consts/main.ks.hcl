variable "list" {
  default = ["a", null]
}

source "generator" "s" {
  schema = object({ a = string, n = int })
}

sink "stdout" "out" {
  path = "out-{each.key}" # ERROR: each.key
}

route "r" {
  for_each = { x = { min = 5, name = "q" }, y = { min = 6, name = "r" } }
  from     = source.s
  filter   = ["n > each.value.min", "a == each.key", "a in var.list", "a == local.nothing"] # ERROR: local.nothing
  to       = sink.out
}

route "q" {
  from   = source.s
  filter = "a == each.key" # ERROR: each.key
  to     = sink.out
}
