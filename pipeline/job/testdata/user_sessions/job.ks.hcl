cluster "main" {
  brokers = ["127.0.0.1:9092"]
}

stream "playback" {
  schema = object({
    user_id     = string
    ts          = timestamp_ms
    action      = string
    position_ms = int
    device      = object({ type = string })
  })
}

stream "sessions" {}

stream "late" {}

job "sessions" {
  on_error = "drop"
  read "plays" {
    from       = stream.playback
    event_time = "ts"
    watermark  = "10s"
    max_ahead  = "0s"
  }
  filter "valid" {
    input = read.plays
    where = "user_id != nil"
  }
  window "by_user" {
    input            = filter.valid
    key              = { user_id = "user_id" }
    allowed_lateness = "5m"
    session {
      gap = "30m"
    }
    aggregate = {
      events  = "count()"
      stops   = "count(where(action == 'stop'))"
      watched = "sum(position_ms)"
      devices = "count_distinct(device.type)"
    }
  }
  write "out" {
    input     = window.by_user
    to        = stream.sessions
    changelog = "upsert"
  }
  write "late" {
    input = window.by_user.late
    to    = stream.late
  }
}
