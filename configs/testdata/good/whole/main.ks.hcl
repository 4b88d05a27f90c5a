variable "region" {
  type    = string
  default = "us-east-1"
}

cluster "main" {
  brokers = ["127.0.0.1:9092"]
}

stream "playback" {
  description = "One event per player action."
  partitions  = 8
  retention   = "24h"
  key         = "user_id"
  schema = object({
    user_id     = string
    ts          = timestamp_ms
    country     = string
    device      = object({ type = string, os = optional(string) })
    position_ms = int
    duration_ms = int
    tags        = list(string)
  })
}

stream "sessions" {
  origin = false
}

sink "elasticsearch" "search" {
  urls = ["http://127.0.0.1:9200"]
  path = "plays-{ts:2006.01.02}"
}

route "tv_plays" {
  from   = stream.playback
  filter = "country in ['BR', 'US'] && device.type == 'tv' && position_ms > 1000"
  project = {
    user_id = "user_id"
    ts      = "ts"
    os      = "device.os ?? 'unknown'"
    pct     = "position_ms / duration_ms * 100"
  }
  to       = sink.search
  on_error = "dead_letter"

  delivery {
    guarantee = "at_least_once"
    redeploy  = "prefer_latency"
  }
}
