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
