cluster "main" {
  brokers = ["127.0.0.1:9092"]
}

locals {
  min = 1000
}

stream "playback" {
  partitions = 8
  key        = "user_id"
  schema = object({
    user_id     = string
    play_id     = string
    title_id    = string
    ts          = timestamp_ms
    action      = string
    country     = string
    device      = object({ type = string, os = optional(string) })
    position_ms = int
    tags        = list(string)
  })
}

stream "titles" {
  key    = "title_id"
  config = { "cleanup.policy" = "compact" }
  schema = object({ title_id = string, name = string })
}

stream "sessions" {}

stream "charts" {
  schema = object({ window_start = timestamp_ms, window_end = timestamp_ms, title = string, plays = int, rank = int })
}

stream "changes" {}

stream "durations" {}

sink "elasticsearch" "search" {
  urls = ["http://127.0.0.1:9200"]
}

sink "stdout" "screen" {}

defaults {
  job {
    on_error = "drop"
    checkpoint {
      interval = "5m"
    }
  }
}

job "sessions" {
  description = "Everything that there is."
  read "plays" {
    from       = stream.playback
    event_time = "ts"
    watermark  = "10s"
  }
  filter "valid" {
    input = read.plays
    where = ["user_id != nil", "position_ms > local.min || meta.partition == 0"]
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
      share   = "count(where(action == 'stop')) / count()"
      top     = { titles = "top_k(title_id, 3)", kind = "'x'" }
    }
  }
  write "out" {
    input     = window.by_user
    to        = stream.sessions
    changelog = "upsert"
  }
  project "late" {
    input = window.by_user.late
    drop  = ["tags"]
  }
  write "late" {
    input = project.late
    to    = sink.search
  }
}

job "charts" {
  for_each = { br = "BR", us = "US" }
  read "plays" {
    from = stream.playback
  }
  split "kind" {
    input = read.plays
    branch "start" {
      where = "action == 'start' && country == each.value"
    }
    branch "stop" {
      where = "action == 'stop' && country == each.value"
    }
  }
  window "titles" {
    input = split.kind.start
    key   = { title = "title_id" }
    hopping {
      size  = "5m"
      every = "1m"
    }
    aggregate = { plays = "count()" }
  }
  top "best" {
    input      = window.titles
    key        = { start = "window_start" }
    order_by   = "plays"
    descending = true
    n          = 10
  }
  write "charts" {
    input = top.best
    to    = stream.charts
  }
  aggregate "all" {
    input     = split.kind.rest
    key       = {}
    aggregate = { n = "count()" }
  }
  write "changes" {
    input     = aggregate.all
    to        = stream.changes
    revisions = true
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
    project = { user = "left.user_id", ms = "right.ts - left.ts" }
  }
  lookup "name" {
    input = split.kind.stop
    from  = stream.titles
    key   = { title_id = "title_id" }
    as    = "title"
    as_of = "event_time"
  }
  explode "tags" {
    input = lookup.name
    field = "tags"
    as    = "tag"
  }
  dedup "once" { # WARNING: Not deterministic
    input = explode.tags
    key   = { title = "title.name", tag = "tag" }
    ttl   = "1d"
  }
  project "same" {
    input   = dedup.once
    project = { user = "user_id", ms = "position_ms" }
  }
  union "both" {
    input = [join.pairs, project.same]
  }
  write "durations" {
    input = union.both
    to    = stream.durations
    key   = "user"
  }
}

route "on" {
  from = stream.charts
  to   = sink.screen
}
