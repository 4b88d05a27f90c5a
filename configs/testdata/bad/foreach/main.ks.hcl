stream "a" {
  for_each = ["x", "y", "x"] # ERROR: has the key "x" twice
}

stream "b" {
  for_each = 3 # ERROR: takes a map, a set or a list
}

stream "c" {
  for_each = [1, 2] # ERROR: strings only
}

stream "d" {
  for_each = toset(["eu", "us"])
}

stream "e" {
  for_each = { ab = 1 }
  description = each.val # ERROR: There are each.key and each.value
}

source "generator" "g" {}

route "one" {
  from = source.g
  to   = stream.d # ERROR: name one of its instances
}

route "two" {
  from = source.g
  to   = stream.d["uk"] # ERROR: Invalid index
}

stream "f" {
  for_each = null # ERROR: this is null
}

route "many" {
  for_each = ["a", "b", "c"]
  from     = source.nothing # ERROR: There is no source "nothing"
  to       = stream.d["eu"]
  start    = each.key == "b" ? "never" : "latest" # ERROR: "never" is neither
  filter   = "1 +" # ERROR: Not an expression
  batch {
    records = 0 # ERROR: must be between
  }
}
