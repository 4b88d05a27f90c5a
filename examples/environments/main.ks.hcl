# The same configuration in two environments: files that are named for an
# environment change blocks of the others.

variable "retention" {
  type    = string
  default = "1h"
}

cluster "main" {
  brokers = ["127.0.0.1:9092"]
}

defaults {
  stream {
    partitions = 2
    retention  = var.retention
  }
}

stream "clicks" {
  schema = object({ user = string, page = string, ts = timestamp_ms })
}

stream "checkout" {}

route "checkout" {
  from   = stream.clicks
  filter = "page startsWith '/checkout'"
  key    = "user"
  to     = stream.checkout
}
