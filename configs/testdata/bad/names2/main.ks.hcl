sink "file" "a" {}

sink "stdout" "a" {} # ERROR: names are unique over all kinds

sink "file" {} # ERROR: A sink has a kind and a name

sink "file" "Bad-Name" {} # ERROR: "Bad-Name" cannot be a name

stream "plays" {}

stream "plays" {} # ERROR: already declared

loose = 1 # ERROR: stands outside of any block

sink "kafka" "k" {} # ERROR: Topics of Kafka are streams

locals {
  x = 1
}

locals {
  x = 2 # ERROR: already declared
  y {} # ERROR: values only
}

defaults {
  rout {} # ERROR: Did you mean "route"?
  sink {} # ERROR: Defaults are written
  route {
    nothing = 1 # ERROR: no option "nothing"
    on_error = "dropp" # ERROR: Did you mean "drop"?
  }
  route {} # ERROR: already written
  stream {
    for_each = [] # ERROR: Defaults cannot make instances
  }
}

alert "x" {} # ERROR: no "alert" blocks
notify "x" {} # ERROR: no "notify" blocks
runner "x" {} # ERROR: no "runner" blocks
