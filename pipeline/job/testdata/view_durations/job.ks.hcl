cluster "main" {
  brokers = ["127.0.0.1:9092"]
}

stream "playback" {
  schema = object({ play_id = string, user_id = string, ts = timestamp_ms, action = string })
}

stream "durations" {}

job "durations" {
  on_error = "drop"
  read "plays" {
    from       = stream.playback
    event_time = "ts"
    watermark  = "10s"
    max_ahead  = "0s"
  }
  split "kind" {
    input = read.plays
    branch "start" {
      where = "action == 'start'"
    }
    branch "stop" {
      where = "action == 'stop'"
    }
  }
  join "pairs" {
    left      = split.kind.start
    right     = split.kind.stop
    left_key  = { id = "play_id" }
    right_key = { id = "play_id" }
    type      = "left"
    interval {
      after = "4h"
    }
    project = { play = "left.play_id", user = "left.user_id", ms = "right.ts - left.ts" }
  }
  write "durations" {
    input = join.pairs
    to    = stream.durations
    key   = "user"
  }
  write "others" {
    input = split.kind.rest
    to    = stream.others
  }
}

stream "others" {}
