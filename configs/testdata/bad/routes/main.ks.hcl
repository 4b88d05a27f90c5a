source "generator" "g" {}

stream "a" {}
stream "b" {}
stream "c" {
  topic = "a" # ERROR: are both the topic "a"
}

route "start" {
  from  = source.g
  to    = stream.a
  start = "latst" # ERROR: Did you mean "latest"?
}

route "start_of_source" {
  from  = source.g
  to    = stream.a
  start = "latest" # ERROR: source.g is no stream
}

route "ab" {
  from = stream.a
  to   = stream.b # ERROR: route.ab → stream.b → route.ba → stream.a → route.ab
}

route "ba" {
  from = stream.b
  to   = stream.a
}

sink "stdout" "out" {}

route "dead" {
  from        = stream.b
  to          = sink.out
  dead_letter = stream.b # ERROR: route.dead → stream.b → route.dead
  limits {
    max_record_bytes = "100MiB" # ERROR: does not fit
  }
  batch {
    bytes = "64MiB"
  }
  retry {
    initial = "1h"
    max     = "1s" # ERROR: is shorter than the first
  }
}

route "printing" {
  from        = stream.b
  to          = sink.out
  dead_letter = sink.out # ERROR: keeps nothing that could be looked at later
}

route "dropping" {
  from        = stream.b
  to          = sink.out
  on_error    = "drop"
  dead_letter = stream.a # ERROR: makes no dead letters
}

stream "bad" {
  topic = "a b" # ERROR: cannot name a topic
}

stream "ext" {
  external   = "ads" # ERROR: is not NAMESPACE.STREAM # ERROR: the broker inside this process
  partitions = 3 # ERROR: belongs to another namespace
}

stream "keep" {
  retention = "forever"
  config    = { "retention.ms" = "5" } # ERROR: Keep one
}
