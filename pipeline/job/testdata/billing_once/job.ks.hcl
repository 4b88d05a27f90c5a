cluster "main" {
  brokers = ["127.0.0.1:9092"]
}

stream "billing" {
  key    = "id"
  schema = object({ id = string, ts = timestamp_ms, cents = int })
}

stream "charges" {}

stream "totals" {}

job "billing" {
  on_error = "drop"
  read "billing" {
    from       = stream.billing
    event_time = "ts"
    watermark  = "1m"
    max_ahead  = "0s"
  }
  dedup "once" {
    input = read.billing
    key   = { id = "id" }
    ttl   = "1h"
  }
  write "charges" {
    input = dedup.once
    to    = stream.charges
    key   = "id"
  }
  window "hours" {
    input = dedup.once
    key   = {}
    tumbling {
      size = "1h"
    }
    aggregate = { charges = "count()", cents = "sum(cents)" }
  }
  write "totals" {
    input = window.hours
    to    = stream.totals
  }
}
