locals {
  event   = object({ a = string, n = int, t = timestamp_ms, o = object({ x = int }) })
  circle  = object({ a = local.circle }) # ERROR: Types in a circle
  is_good = "nn > 1" # ERROR: nn
}

source "generator" "g" {
  schema = local.event
}

source "generator" "h" {
  schema = object({ a = strng }) # ERROR: Did you mean "string"?
}

source "generator" "i" {
  schema = local.circle
}

source "generator" "j" {
  schema = source.g.schem # ERROR: only its schema can be read
}

source "generator" "k" {
  schema = source.l.schema # ERROR: There is no source "l"
}

source "generator" "m" {
  schema = source.n.schema # ERROR: is its own, over others
}

source "generator" "n" {
  schema = source.m.schema # ERROR: is its own, over others
}

stream "target" {
  schema = object({
    a = string
    n = int
    o = object({ x = string, y = optional(int), z = bool })
    t = timestamp_ms
    f = float
  })
}

route "good" {
  from = source.g
  project = {
    a = "a"
    n = "n"
    o = {
      x = "string(o.x)"
      z = true
    }
    t = "t"
    f = "n"
  }
  to = stream.target
}

route "mismatch" {
  from = source.g
  project = {
    a = "n" # ERROR: "a" is int, and declared there as string. Write string(…).
    n = "n / 2" # ERROR: "n" is float, and declared there as int
    o = { # ERROR: The field "o.z" (bool) is required there
      x = "o.x" # ERROR: "o.x" is int, and declared there as string
    }
    t = "t"
  }
  to = stream.target # ERROR: The field "f" (float) is required there
}

route "untouched" {
  from = source.g
  to   = stream.target # ERROR: "o.x" is int, and declared there as string
}

route "shared" {
  from   = source.g
  filter = [local.is_good, "m == 1"] # ERROR: m
  to     = stream.target
  set    = { o = { x = "''", z = true } }
}
