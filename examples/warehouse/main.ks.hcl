# Events to a warehouse in a folder, and back.

source "file" "plays" {
  path = "plays.ndjson"
  schema = object({
    user_id     = string
    ts          = timestamp_ms
    country     = string
    device      = object({ type = string, os = optional(string) })
    position_ms = int
    price       = optional(decimal(9, 2))
    tags        = list(string)
  })
}

sink "hive" "plays" {
  location = "warehouse/plays"
  partition_by = {
    dt      = "format_time(ts, '2006-01-02')"
    country = "country"
  }

  roll {
    interval = "1m"
  }
}

route "store" {
  from = source.plays
  to   = sink.plays
}

source "parquet" "plays_again" {
  location   = "warehouse/plays"
  event_time = "ts"
}

sink "file" "tv" {
  path = "out/tv.ndjson"
}

route "tv" {
  from   = source.plays_again
  filter = "dt == '2026-03-02' && device.type == 'tv'"
  project = {
    user    = "user_id"
    country = "country"
    os      = "device.os ?? 'unknown'"
    price   = "price"
  }
  to = sink.tv
}
