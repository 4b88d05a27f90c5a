cluster "one" {
  brokers = ["127.0.0.1:9092"]
}

cluster "two" {
  brokers = ["127.0.0.1:9093"]
}

stream "a" {
  cluster = cluster.one
}

stream "b" {
  cluster = cluster.one
}

stream "far" {
  cluster = cluster.two
}

source "generator" "events" {}

source "file" "lines" {}

sink "file" "out" {}

sink "stdout" "screen" {}

# What is kept: nothing is wrong here.
route "kept" {
  from        = stream.a
  to          = stream.b
  dead_letter = stream.b
  order       = "key"
  delivery {
    guarantee = "exactly_once"
  }
}

route "most" {
  from = source.lines
  to   = sink.screen
  delivery {
    guarantee = "at_most_once"
  }
}

route "far" {
  from = stream.a
  to   = stream.far # ERROR: stream.a is on cluster.one and stream.far on cluster.two
  delivery {
    guarantee = "exactly_once"
  }
}

route "letters" {
  from        = stream.a
  to          = stream.b
  dead_letter = stream.far # ERROR: needs the dead letters in the transaction
  delivery {
    guarantee = "exactly_once"
  }
}

route "long" {
  from = stream.a
  to   = stream.b
  delivery {
    guarantee       = "exactly_once"
    commit_interval = "10m" # ERROR: here 15m
    drain_timeout   = "5m"
  }
}

route "from_source" {
  from = source.lines
  to   = stream.b
  delivery {
    guarantee = "exactly_once" # ERROR: With source.lines, guarantee = "exactly_once" cannot be kept: files have no transactions.
  }
}

route "undeclared" {
  from = source.events # ERROR: source.events is no stream
  to   = stream.b
  delivery {
    guarantee = "exactly_once"
  }
}

route "to_sink" {
  from = stream.a
  to   = sink.screen # ERROR: sink.screen is no stream
  delivery {
    guarantee = "exactly_once"
  }
}

route "most_into_file" {
  from = stream.a
  to   = sink.out
  delivery {
    guarantee = "at_most_once" # ERROR: With sink.out, guarantee = "at_most_once" cannot be kept: files are cut back.
  }
}
