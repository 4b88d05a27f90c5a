source "generator" "g" {}
sink "stdout" "out" {}

cluster "c" { # ERROR: The option "brokers" is required
  bootstrap_servers = ["x:1"] # ERROR: It is called "brokers".
}

route "r" {
  from      = source.g
  to        = sink.out
  where     = "a == 1" # ERROR: It is called "filter".
  guarantee = "at_most_once" # ERROR: It belongs into the nested block delivery { }.
}
