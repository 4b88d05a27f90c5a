cluster "main" {
  brokers = ["127.0.0.1:9092"]
}

stream "playback" {
  schema = object({ title = string, ts = timestamp_ms })
}

stream "counts" {}

stream "late" {}

job "counts" {
  on_error = "drop"
  read "plays" {
    from       = stream.playback
    event_time = "ts"
    watermark  = "5s"
    max_ahead  = "0s"
  }
  window "minutes" {
    input            = read.plays
    key              = { title = "title" }
    allowed_lateness = "2m"
    tumbling {
      size = "1m"
    }
    aggregate = { plays = "count()" }
  }
  write "counts" {
    input     = window.minutes
    to        = stream.counts
    changelog = "upsert"
  }
  write "late" {
    input = window.minutes.late
    to    = stream.late
  }
}
