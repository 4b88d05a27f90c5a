source "generator" "s" {
  rate = 5
}

source "generator" "s_rate" {}

sink "stdout" "out" {}

route "r" {
  from = source.s
  to   = sink.out
}
