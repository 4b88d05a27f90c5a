stream "a" {}

stream "b" {}

route "inside" {
  from = stream.a
  to   = stream.b
  delivery {
    guarantee = "exactly_once" # ERROR: needs a Kafka cluster
  }
}
